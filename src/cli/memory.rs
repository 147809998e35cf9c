//! How glibc keeps memory for a service. As it comes it gives each thread that blocks a heap of its own, and keeps what is
//! freed in them: a hundred destinations that drain at once took 240 MB, of which 40 are events. With two heaps, and pages
//! of their own for what is large, 110. It reads that from the environment as it starts, and by a call that is unsafe; so
//! the process begins once more with these variables, under its own id. Who has set one of them is not overruled.
//!
//! Where it has rights that its user has not, glibc takes them out of the environment: so another variable says that this
//! is the second beginning.

/// For glibc: `mallopt(3)`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const VARIABLES: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "524288"),
    // With a fixed threshold above, glibc would give back each bit at the end of a heap, and take it again.
    ("MALLOC_TRIM_THRESHOLD_", "4194304"),
];

/// That it has begun once more. Not `PINTLE_…`, which are settings.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const BEGUN: &str = "_PINTLE_BEGUN";

/// Begins this process once more with the variables, before it has done anything. Where that cannot be it only takes more
/// memory.
pub(super) fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::os::unix::process::CommandExt;
        let is_set = |name: &str| std::env::var_os(name).is_some();
        let is_set = is_set(BEGUN) || VARIABLES.iter().any(|(name, _)| is_set(name));
        let mut arguments = std::env::args_os();
        let (Ok(program), Some(name), false) = (std::env::current_exe(), arguments.next(), is_set) else {
            return;
        };
        let mut again = std::process::Command::new(program);
        // It returns where the program is not there any more, since another version has taken its place meanwhile, or where
        // somebody forbids it. Then a broken pipe is a signal from here on: `server::Signals` listens to it.
        drop(again.arg0(name).args(arguments).envs(VARIABLES).env(BEGUN, "1").exec());
    }
}
