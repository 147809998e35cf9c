/* Records what a program does to the files below PINTLE_RECORD_ROOT, in one global order, into PINTLE_RECORD_LOG;
 * or fails a sync, where PINTLE_FAIL_SYNC names a part of a path and PINTLE_FAIL_SWITCH a file whose presence turns the
 * failure on; or makes each sync take PINTLE_SLOW_SYNC microseconds more.
 *
 * A record: u8 what | u32 length, path | u32 length, second path | u64 number | u32 length, data   (little-endian)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, FSYNC, FDATASYNC, RENAME, UNLINK, TRUNCATE, MKDIR, RMDIR };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char root[PATH_MAX];
static size_t root_len;
static const char *fail_part, *fail_switch;
static useconds_t slow_sync;

#define REAL(type, name, ...)                                   \
    static type (*real)(__VA_ARGS__);                           \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static ssize_t real_write(int fd, const void *data, size_t len) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return real(fd, data, len);
}

static int real_open(const char *path, int flags, mode_t mode) {
    REAL(int, "open64", const char *, int, ...);
    return real(path, flags, mode);
}

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("PINTLE_RECORD_ROOT"), *log = getenv("PINTLE_RECORD_LOG");
    fail_part = getenv("PINTLE_FAIL_SYNC");
    fail_switch = getenv("PINTLE_FAIL_SWITCH");
    const char *slow = getenv("PINTLE_SLOW_SYNC");
    if (slow) slow_sync = (useconds_t)atoi(slow);
    if (where && log && realpath(where, root)) {
        root_len = strlen(root);
        log_fd = real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
}

/* The path below the root, or none. */
static const char *below(const char *path) {
    if (log_fd < 0 || strncmp(path, root, root_len) != 0 || path[root_len] != '/') return NULL;
    return path + root_len + 1;
}

static const char *path_of(int fd, char *buffer) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(name, buffer, PATH_MAX - 1);
    if (len <= 0) return NULL;
    buffer[len] = 0;
    return buffer;
}

static const char *path_at(int dir, const char *path, char *buffer) {
    if (path[0] == '/') { snprintf(buffer, PATH_MAX, "%s", path); return buffer; }
    char folder[PATH_MAX];
    if (dir == AT_FDCWD) { if (!getcwd(folder, sizeof folder)) return NULL; }
    else if (!path_of(dir, folder)) return NULL;
    if ((size_t)snprintf(buffer, PATH_MAX, "%s/%s", folder, path) >= PATH_MAX) return NULL;
    return buffer;
}

static void put(const void *data, size_t len) {
    const char *at = data;
    while (len > 0) {
        ssize_t done = real_write(log_fd, at, len);
        if (done <= 0) abort();
        at += done;
        len -= (size_t)done;
    }
}

static void note(uint8_t what, const char *path, const char *second, uint64_t number, const void *data, uint32_t len) {
    if (!second) second = "";
    uint32_t path_len = (uint32_t)strlen(path), second_len = (uint32_t)strlen(second);
    put(&what, 1);
    put(&path_len, 4);
    put(path, path_len);
    put(&second_len, 4);
    put(second, second_len);
    put(&number, 8);
    put(&len, 4);
    if (len) put(data, len);
}

#define GUARDED(expression)           \
    pthread_mutex_lock(&lock);        \
    expression;                       \
    int kept = errno;                 \
    pthread_mutex_unlock(&lock);      \
    errno = kept

static int opened(int dir, const char *path, int flags, mode_t mode) {
    REAL(int, "openat64", int, const char *, int, ...);
    char buffer[PATH_MAX];
    const char *whole = NULL;
    if ((flags & (O_CREAT | O_TRUNC)) && log_fd >= 0 && path_at(dir, path, buffer)) whole = below(buffer);
    if (!whole) return real(dir, path, flags, mode);
    int fd;
    GUARDED({
        struct stat stat_before;
        int existed = stat(buffer, &stat_before) == 0;
        fd = real(dir, path, flags, mode);
        if (fd >= 0 && !existed) note(CREATE, whole, NULL, 0, NULL, 0);
        else if (fd >= 0 && (flags & O_TRUNC)) note(TRUNCATE, whole, NULL, 0, NULL, 0);
    });
    return fd;
}

#define OPEN(name)                                                  \
    int name(const char *path, int flags, ...) {                    \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                               \
        return opened(AT_FDCWD, path, flags, mode);                 \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                \
    int name(int dir, const char *path, int flags, ...) {           \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                               \
        return opened(dir, path, flags, mode);                      \
    }
OPENAT(openat)
OPENAT(openat64)

static ssize_t wrote(int fd, const void *data, size_t len, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    char buffer[PATH_MAX];
    const char *path = log_fd >= 0 && path_of(fd, buffer) ? below(buffer) : NULL;
    if (!path) return at < 0 ? real_write(fd, data, len) : real(fd, data, len, at);
    ssize_t done;
    GUARDED({
        off64_t place = at;
        if (at < 0) {
            struct stat now;
            place = (fcntl(fd, F_GETFL) & O_APPEND) && fstat(fd, &now) == 0 ? now.st_size : lseek64(fd, 0, SEEK_CUR);
            done = real_write(fd, data, len);
        } else {
            done = real(fd, data, len, at);
        }
        if (done > 0) note(WRITE, path, NULL, (uint64_t)place, data, (uint32_t)done);
    });
    return done;
}

ssize_t write(int fd, const void *data, size_t len) { return wrote(fd, data, len, -1); }
ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return wrote(fd, data, len, at); }
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) { return wrote(fd, data, len, at); }
ssize_t writev(int fd, const struct iovec *pieces, int count) {
    ssize_t all = 0;
    for (int n = 0; n < count; n++) {
        if (!pieces[n].iov_len) continue;
        ssize_t done = wrote(fd, pieces[n].iov_base, pieces[n].iov_len, -1);
        if (done < 0) return all ? all : done;
        all += done;
        if ((size_t)done < pieces[n].iov_len) break;
    }
    return all;
}

/* Copies go by read and write, so that they are seen. */
ssize_t copy_file_range(int a, off64_t *b, int c, off64_t *d, size_t e, unsigned f) {
    (void)a; (void)b; (void)c; (void)d; (void)e; (void)f;
    errno = ENOSYS;
    return -1;
}
ssize_t sendfile(int a, int b, off_t *c, size_t d) { (void)a; (void)b; (void)c; (void)d; errno = ENOSYS; return -1; }
ssize_t sendfile64(int a, int b, off64_t *c, size_t d) { (void)a; (void)b; (void)c; (void)d; errno = ENOSYS; return -1; }

static int synced(int fd, uint8_t what) {
    static int (*all)(int), (*data)(int);
    if (!all) all = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    if (!data) data = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    char buffer[PATH_MAX];
    const char *whole = path_of(fd, buffer);
    if (whole && fail_part && fail_switch && what == FDATASYNC && strstr(whole, fail_part) && access(fail_switch, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    if (slow_sync) usleep(slow_sync);
    const char *path = whole ? below(whole) : NULL;
    if (!path && whole && log_fd >= 0 && strcmp(whole, root) == 0) path = "";
    if (!path) return what == FSYNC ? all(fd) : data(fd);
    int result;
    GUARDED({
        result = what == FSYNC ? all(fd) : data(fd);
        if (result == 0) note(what, path, NULL, 0, NULL, 0);
    });
    return result;
}
int fsync(int fd) { return synced(fd, FSYNC); }
int fdatasync(int fd) { return synced(fd, FDATASYNC); }

static int truncated(int fd, off64_t len) {
    REAL(int, "ftruncate64", int, off64_t);
    char buffer[PATH_MAX];
    const char *path = log_fd >= 0 && path_of(fd, buffer) ? below(buffer) : NULL;
    if (!path) return real(fd, len);
    int result;
    GUARDED({
        result = real(fd, len);
        if (result == 0) note(TRUNCATE, path, NULL, (uint64_t)len, NULL, 0);
    });
    return result;
}
int ftruncate(int fd, off_t len) { return truncated(fd, len); }
int ftruncate64(int fd, off64_t len) { return truncated(fd, len); }

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    char a[PATH_MAX], b[PATH_MAX];
    const char *first = path_at(AT_FDCWD, from, a) ? below(a) : NULL, *second = path_at(AT_FDCWD, to, b) ? below(b) : NULL;
    if (!first || !second) return real(from, to);
    int result;
    GUARDED({
        result = real(from, to);
        if (result == 0) note(RENAME, first, second, 0, NULL, 0);
    });
    return result;
}

static int removed(int dir, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char buffer[PATH_MAX];
    const char *whole = path_at(dir, path, buffer) ? below(buffer) : NULL;
    if (!whole) return real(dir, path, flags);
    int result;
    GUARDED({
        result = real(dir, path, flags);
        if (result == 0) note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, whole, NULL, 0, NULL, 0);
    });
    return result;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int dir, const char *path, int flags) { return removed(dir, path, flags); }

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    char buffer[PATH_MAX];
    const char *whole = path_at(AT_FDCWD, path, buffer) ? below(buffer) : NULL;
    if (!whole) return real(path, mode);
    int result;
    GUARDED({
        result = real(path, mode);
        if (result == 0) note(MKDIR, whole, NULL, 0, NULL, 0);
    });
    return result;
}
