//! The folder as a power cut may leave it.
//!
//! Names as in an ordered journal (ext4, xfs): a prefix of their changes survives, at least up to the last fsync (of
//! anything), and up to the last fdatasync of a file that had grown. Data: what was synced is there; of what was not, each
//! page of 4 KiB is there or not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::child::Dice;
use super::recording::Done;

const PAGE: u64 = 4_096;

#[derive(Clone, Default)]
struct File {
    /// What a sync has covered.
    durable: Vec<u8>,
    /// What was done since.
    since: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64, usize),
}

/// The files and folders of a store, with what is durable of them.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    folders: BTreeSet<String>,
}

/// How much of what was not synced is there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept {
    All,
    Nothing,
    Percent(usize),
}

impl Disk {
    /// From a folder that is durable as it is.
    pub(crate) fn read(root: &Path) -> Self {
        let mut disk = Self::default();
        disk.add(root, "");
        disk
    }

    fn add(&mut self, root: &Path, below: &str) {
        for entry in std::fs::read_dir(root.join(below)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = if below.is_empty() {
                name
            } else {
                format!("{below}/{name}")
            };
            if entry.file_type().unwrap().is_dir() {
                self.folders.insert(path.clone());
                self.add(root, &path);
            } else if entry.file_type().unwrap().is_file() {
                self.names.insert(path, self.files.len());
                self.files.push(File {
                    durable: std::fs::read(entry.path()).unwrap(),
                    since: Vec::new(),
                });
            }
        }
    }

    /// As a cut after the first `cut` of `done` may leave it. Names are decided by `dice`.
    pub(crate) fn after(&self, done: &[Done], cut: usize, kept: Kept, dice: &mut Dice) -> Self {
        let done = &done[..cut];
        let mut disk = self.clone();
        // All data, with all names, to know which file each write went to.
        let mut names = disk.names.clone();
        let mut first_new = Vec::new();
        let mut floor = 0;
        let mut grown: BTreeSet<usize> = BTreeSet::new();
        for (index, one) in done.iter().enumerate() {
            match one {
                Done::Create(path) => {
                    names.insert(path.clone(), disk.files.len());
                    grown.insert(disk.files.len());
                    first_new.push((index, disk.files.len()));
                    disk.files.push(File::default());
                }
                Done::Write { path, at, data } => {
                    let Some(&file) = names.get(path) else { continue };
                    if at + data.len() as u64 > disk.files[file].len() {
                        grown.insert(file);
                    }
                    disk.files[file].since.push(Change::Write(*at, data.clone()));
                }
                Done::Truncate(path, len) => {
                    let Some(&file) = names.get(path) else { continue };
                    grown.insert(file);
                    disk.files[file].since.push(Change::Truncate(*len, index));
                }
                Done::Sync(path, whole) => {
                    let file = names.get(path).copied();
                    if let Some(file) = file {
                        disk.files[file].sync();
                    }
                    if *whole || file.is_some_and(|file| grown.remove(&file)) {
                        floor = index;
                        if let Some(file) = file {
                            grown.remove(&file);
                        }
                    }
                }
                Done::Rename(from, to) => rename(&mut names, from, to),
                Done::Unlink(path) => drop(names.remove(path)),
                Done::MakeFolder(_) | Done::RemoveFolder(_) => {}
            }
        }
        // Names up to some point between the last sync of the journal and the cut.
        let until = match kept {
            Kept::All => cut,
            Kept::Nothing => floor,
            Kept::Percent(_) => floor + dice.below(cut + 1 - floor.min(cut)),
        };
        let new: BTreeMap<usize, usize> = first_new.into_iter().collect();
        for (index, one) in done.iter().enumerate().take(until) {
            match one {
                Done::Create(path) => drop(disk.names.insert(path.clone(), new[&index])),
                Done::Rename(from, to) => {
                    rename(&mut disk.names, from, to);
                    rename_folder(&mut disk.folders, from, to);
                }
                Done::Unlink(path) => drop(disk.names.remove(path)),
                Done::MakeFolder(path) => drop(disk.folders.insert(path.clone())),
                Done::RemoveFolder(path) => drop(disk.folders.remove(path)),
                _ => {}
            }
        }
        for file in &mut disk.files {
            file.settle(kept, until, dice);
        }
        disk
    }

    /// Writes it below a folder.
    pub(crate) fn write(&self, root: &Path) {
        for folder in &self.folders {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for (path, &file) in &self.names {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &self.files[file].durable).unwrap();
        }
    }
}

impl File {
    fn len(&self) -> u64 {
        let mut len = self.durable.len() as u64;
        for change in &self.since {
            match change {
                Change::Write(at, data) => len = len.max(at + data.len() as u64),
                Change::Truncate(to, _) => len = *to,
            }
        }
        len
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.since) {
            match change {
                Change::Write(at, data) => put(&mut self.durable, at, &data),
                Change::Truncate(to, _) => self.durable.resize(to as usize, 0),
            }
        }
    }

    fn settle(&mut self, kept: Kept, until: usize, dice: &mut Dice) {
        for change in std::mem::take(&mut self.since) {
            match change {
                Change::Truncate(to, index) if index < until => self.durable.resize(to as usize, 0),
                Change::Truncate(..) => {}
                Change::Write(at, data) => {
                    let mut begin = 0_usize;
                    while begin < data.len() {
                        let place = at + begin as u64;
                        let end = data.len().min(begin + (PAGE - place % PAGE) as usize);
                        let keep = match kept {
                            Kept::All => true,
                            Kept::Nothing => false,
                            Kept::Percent(percent) => dice.chance(percent),
                        };
                        if keep {
                            put(&mut self.durable, place, &data[begin..end]);
                        }
                        begin = end;
                    }
                }
            }
        }
    }
}

fn put(content: &mut Vec<u8>, at: u64, data: &[u8]) {
    let (at, end) = (at as usize, at as usize + data.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(data);
}

fn rename(names: &mut BTreeMap<String, usize>, from: &str, to: &str) {
    if let Some(file) = names.remove(from) {
        names.insert(to.to_owned(), file);
        return;
    }
    let below = format!("{from}/");
    let moved: Vec<String> = names.keys().filter(|name| name.starts_with(&below)).cloned().collect();
    for name in moved {
        let file = names.remove(&name).unwrap();
        names.insert(format!("{to}/{}", &name[below.len()..]), file);
    }
}

fn rename_folder(folders: &mut BTreeSet<String>, from: &str, to: &str) {
    if !folders.remove(from) {
        return;
    }
    folders.insert(to.to_owned());
    let below = format!("{from}/");
    let moved: Vec<String> = folders
        .iter()
        .filter(|name| name.starts_with(&below))
        .cloned()
        .collect();
    for name in moved {
        folders.remove(&name);
        folders.insert(format!("{to}/{}", &name[below.len()..]));
    }
}
