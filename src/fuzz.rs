//! Long-form tests: a target gets mutations of a small corpus (`tests/fuzz/NAME/`) for `PINTLE_FUZZ_SECONDS`, a fraction of
//! a second where that is not set. What makes one panic is written beside the corpus, to become a test of its own.
//! `PINTLE_FUZZ_SEED` repeats a run.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Numbers that one seed repeats (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `most`; 0 where that is 0.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        (self.roll() % (most.max(1) as u64)) as usize
    }
}

const LARGEST: usize = 64 << 10;
const BYTES: &[u8] = b"\0\x01\x7f\x80\xff\"\\{}[]:,=&%/ \n\r\t0-9eE+.";

fn mutate(input: &mut Vec<u8>, other: &[u8], words: &[&str], dice: &mut Dice) {
    for _ in 0..=dice.below(6) {
        let at = dice.below(input.len() + 1);
        let end = (at + 1 + dice.below(16)).min(input.len());
        match dice.below(9) {
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            1 if at < input.len() => input[at] = BYTES[dice.below(BYTES.len())],
            2 => input.insert(at, BYTES[dice.below(BYTES.len())]),
            3 if at < end => drop(input.drain(at..end)),
            4 if at < end => {
                let again = input[at..end].to_vec();
                let most = if dice.below(20) == 0 { 200 } else { 3 };
                let times = 1 + dice.below(most);
                for _ in 0..times {
                    input.splice(at..at, again.iter().copied());
                }
            }
            5 | 6 if !words.is_empty() => {
                let word = words[dice.below(words.len())];
                input.splice(at..at, word.bytes());
            }
            7 => {
                let from = dice.below(other.len());
                let to = (from + dice.below(64)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            8 if dice.below(8) == 0 => input.truncate(at),
            _ => {}
        }
    }
    input.truncate(LARGEST);
}

/// Runs a target: the corpus as it is, then mutations of it and of what was made of it.
pub(crate) fn target(name: &str, words: &[&str], mut test: impl FnMut(&[u8], &mut Dice)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name);
    let mut seeds: Vec<Vec<u8>> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no corpus in {}", folder.display());
    let setting = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = setting("PINTLE_FUZZ_SECONDS").map_or(Duration::from_millis(300), Duration::from_secs);
    let mut dice = Dice(setting("PINTLE_FUZZ_SEED").unwrap_or(20_261_125));
    let mut made: VecDeque<Vec<u8>> = VecDeque::new();
    let (began, mut executions) = (Instant::now(), 0_u64);
    let mut waiting: VecDeque<Vec<u8>> = seeds.iter().cloned().collect();
    while began.elapsed() < time || !waiting.is_empty() {
        let input = waiting.pop_front().unwrap_or_else(|| {
            let pool = seeds.len() + made.len();
            let pick = |number: usize| seeds.get(number).unwrap_or_else(|| &made[number - seeds.len()]);
            let mut input = pick(dice.below(pool)).clone();
            let other = pick(dice.below(pool)).clone();
            mutate(&mut input, &other, words, &mut dice);
            input
        });
        executions += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&input, &mut dice))) {
            let path = folder.join(format!("found-{:08x}", crc32fast::hash(&input)));
            std::fs::write(&path, &input).unwrap();
            eprintln!("{name}: after {executions} executions: {}", path.display());
            resume_unwind(panic);
        }
        if dice.below(16) == 0 {
            made.push_back(input);
            if made.len() > 64 {
                made.pop_front();
            }
        }
    }
    eprintln!(
        "fuzz {name}: {executions} executions in {:.1} s",
        began.elapsed().as_secs_f64()
    );
}
