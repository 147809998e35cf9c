//! "Did you mean": the nearest of some known names.

/// The name that the fewest edits turn `given` into, if they are few for its length.
pub fn nearest(given: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let length = given.chars().count();
    if length > 100 {
        return None;
    }
    let most = (length / 3).max(1);
    known
        .map(|name| (distance(given, &name), name))
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours, letter case aside.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    let mut previous = None;
    for (row, letter) in one.to_lowercase().chars().enumerate() {
        let mut current = vec![row + 1];
        let mut other_previous = None;
        for (column, other_letter) in other.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, column) + usize::from(letter != *other_letter))
                .min(at(&last, column + 1) + 1)
                .min(at(&current, column) + 1);
            if row > 0 && column > 0 && previous == Some(*other_letter) && other_previous == Some(letter) {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
            other_previous = Some(*other_letter);
        }
        before_last = std::mem::replace(&mut last, current);
        previous = Some(letter);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (one, other, edits) in [
            ("", "", 0),
            ("abc", "", 3),
            ("listen", "lisen", 1),
            ("listen", "lsiten", 1),
            ("kitten", "sitting", 3),
            ("URL", "url", 0),
        ] {
            assert_eq!(distance(one, other), edits, "{one} {other}");
            assert_eq!(distance(other, one), edits, "{other} {one}");
        }
    }

    #[test]
    fn only_what_is_near_is_meant() {
        let known = || ["listen", "label", "secret"].into_iter().map(str::to_owned);
        assert_eq!(nearest("lisen", known()).as_deref(), Some("listen"));
        assert_eq!(nearest("lable", known()).as_deref(), Some("label"));
        assert_eq!(nearest("password", known()), None);
    }
}
