//! What is told of a change, and whether it is. Pure: the present moment is an argument.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::deliver::Notice;
use crate::event::{DestinationId, RunId, Timestamp};
use crate::store::{RunRecord, Space};

/// Dead letters of one destination are told at most this often.
const DEAD_EACH: u64 = 10 * 60 * 1000;
/// Destinations whose last dead letters are remembered.
const MOST_REMEMBERED: usize = 1_000;

/// Alerts of the crowd are told one by one so often in [`CROWD_EACH`]; of more only how many there were.
const CROWD_MOST: u32 = 16;
const CROWD_EACH: u64 = 10 * 60 * 1000;

/// The body of the POST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// One sentence, in Slack's escaping.
    pub text: String,
    /// `held`, `free`, `dead_letters`, `maybe_truncated`, `store_filling`, `store_full`, `store_free`, `more`
    pub what: &'static str,
    /// Of which destination.
    pub destination: Option<DestinationId>,
    /// Of which run.
    pub run: Option<RunId>,
    /// When.
    pub at: Timestamp,
    /// How many dead letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<u64>,
    /// Why, without the gateway's words, which may quote a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The page of the manual: `pintle explain P0007`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
}

impl Alert {
    /// Whether requests alone can make any number of its kind: about destinations that the configuration does not name,
    /// and about runs. Those must never be in the way of the others.
    pub(super) fn is_of_the_crowd(&self) -> bool {
        self.what == "more"
            || self.what == "maybe_truncated"
            || self.destination.as_ref().is_some_and(|id| !id.is_name())
    }
}

/// What was told already.
#[derive(Default)]
pub(super) struct Changes {
    dead: BTreeMap<DestinationId, Dead>,
    crowd: Crowd,
    filling: bool,
    full: bool,
}

/// Alerts of the crowd since a moment.
#[derive(Default)]
struct Crowd {
    since: Timestamp,
    told: u32,
    untold: u64,
}

#[derive(Clone, Copy)]
struct Dead {
    told_at: Timestamp,
    untold: u64,
    run: Option<RunId>,
}

impl Changes {
    pub(super) fn notice(&mut self, id: &DestinationId, notice: &Notice, now: Timestamp) -> Option<Alert> {
        let alert = match notice {
            Notice::Held { reason, .. } => Some(Alert {
                reason: Some(reason.clone()),
                ..about(
                    "held",
                    id,
                    now,
                    format!("Nothing goes to {id} any more: {reason}. Its events are kept."),
                )
            }),
            Notice::Free => Some(about("free", id, now, format!("Deliveries to {id} go on."))),
            Notice::DeadLetters { events, .. } => self.dead_letters(id, *events as u64, None, now),
            _ => None,
        };
        alert.filter(|alert| self.is_told(alert, now))
    }

    pub(super) fn run(&mut self, run: &RunRecord, now: Timestamp) -> Vec<Alert> {
        let mut alerts = Vec::new();
        let title = run.looker.title.as_deref().unwrap_or("a run without a title");
        if run.maybe_truncated {
            alerts.push(Alert {
                run: Some(run.id),
                code: Some(crate::event::Code::MaybeTruncated.as_str()),
                ..about(
                    "maybe_truncated",
                    &run.destination,
                    now,
                    format!(
                        "\"{title}\" brought {} rows, exactly its limit: Looker may have left some out.",
                        run.rows
                    ),
                )
            });
        }
        if run.dead_rows > 0 {
            alerts.extend(self.dead_letters(&run.destination, run.dead_rows, Some(run.id), now));
        }
        alerts.retain(|alert| self.is_told(alert, now));
        alerts
    }

    pub(super) fn space(&mut self, space: &Space, now: Timestamp) -> Option<Alert> {
        let tenths = |bytes: u64| bytes.saturating_mul(10);
        let full = space.full_at.is_some();
        let before = std::mem::replace(&mut self.full, full);
        let alert = |what, text: String| Alert {
            text: escaped(&text),
            what,
            destination: None,
            run: None,
            at: now,
            dead_letters: None,
            reason: None,
            code: Some(crate::event::Code::StoreFull.as_str()),
        };
        let size = |bytes: u64| bytes as f64 / 1e9;
        let holds = format!(
            "it holds {:.1} GB of {:.1} GB, {:.1} GB are free on its disk",
            size(space.bytes),
            size(space.max_bytes),
            size(space.free_bytes)
        );
        match (before, full) {
            (false, true) => {
                return Some(alert(
                    "store_full",
                    format!("The store is full, runs are refused: {holds}."),
                ));
            }
            (true, false) => return Some(alert("store_free", format!("The store takes runs again: {holds}."))),
            _ => {}
        }
        let (used, max) = (tenths(space.bytes), space.max_bytes);
        if used < max.saturating_mul(8) {
            self.filling = false;
        } else if used >= max.saturating_mul(9) && !self.filling && !full {
            self.filling = true;
            return Some(alert("store_filling", format!("The store is nearly full: {holds}.")));
        }
        None
    }

    /// Dead letters that came soon after others were told, and whose time has come.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Alert> {
        let mut due = Vec::new();
        self.dead.retain(|id, dead| {
            if now.since(dead.told_at) < DEAD_EACH {
                return true;
            }
            if dead.untold > 0 {
                due.push(of_dead(id, dead.untold, dead.run, now));
                *dead = Dead {
                    told_at: now,
                    untold: 0,
                    run: None,
                };
                return true;
            }
            false
        });
        due.retain(|alert| self.is_told(alert, now));
        if self.crowd.untold > 0 && now.since(self.crowd.since) >= CROWD_EACH {
            due.push(more(self.crowd.untold, now));
            self.crowd = Crowd {
                since: now,
                ..Crowd::default()
            };
        }
        due
    }

    /// Counts an alert of the crowd; whether it is told by itself.
    fn is_told(&mut self, alert: &Alert, now: Timestamp) -> bool {
        if !alert.is_of_the_crowd() {
            return true;
        }
        let crowd = &mut self.crowd;
        if crowd.untold == 0 && now.since(crowd.since) >= CROWD_EACH {
            *crowd = Crowd {
                since: now,
                ..Crowd::default()
            };
        }
        if crowd.told < CROWD_MOST {
            crowd.told += 1;
            return true;
        }
        crowd.untold += 1;
        false
    }

    fn dead_letters(&mut self, id: &DestinationId, count: u64, run: Option<RunId>, now: Timestamp) -> Option<Alert> {
        if let Some(dead) = self.dead.get_mut(id)
            && now.since(dead.told_at) < DEAD_EACH
        {
            dead.run = if dead.untold == 0 {
                run
            } else {
                dead.run.filter(|_| dead.run == run)
            };
            dead.untold += count;
            return None;
        }
        let untold = self.dead.remove(id).map_or(0, |dead| dead.untold);
        if self.dead.len() < MOST_REMEMBERED {
            let told = Dead {
                told_at: now,
                untold: 0,
                run: None,
            };
            self.dead.insert(id.clone(), told);
        }
        Some(of_dead(id, untold + count, run.filter(|_| untold == 0), now))
    }
}

fn more(count: u64, now: Timestamp) -> Alert {
    Alert {
        text: format!(
            "{count} more alerts about runs, and about destinations that the configuration does not name: the console and \
             `pintle status` show them."
        ),
        what: "more",
        destination: None,
        run: None,
        at: now,
        dead_letters: None,
        reason: None,
        code: None,
    }
}

fn of_dead(id: &DestinationId, count: u64, run: Option<RunId>, now: Timestamp) -> Alert {
    let (letters, lie) = if count == 1 {
        (
            "1 dead letter".to_owned(),
            "it lies there until somebody sends it again",
        )
    } else {
        (
            format!("{count} dead letters"),
            "they lie there until somebody sends them again",
        )
    };
    Alert {
        dead_letters: Some(count),
        run,
        ..about(
            "dead_letters",
            id,
            now,
            format!("{letters} for {id}: the console and `pintle dead list` say why, and {lie}."),
        )
    }
}

fn about(what: &'static str, id: &DestinationId, now: Timestamp, text: String) -> Alert {
    Alert {
        text: escaped(&text),
        what,
        destination: Some(id.clone()),
        run: None,
        at: now,
        dead_letters: None,
        reason: None,
        code: None,
    }
}

/// A look's title may hold Slack's commands, such as `<!channel>`.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn id() -> DestinationId {
        DestinationId("marketing".into())
    }

    fn dead(events: usize) -> Notice {
        Notice::DeadLetters {
            events,
            words: "a row's secret".to_owned(),
        }
    }

    #[test]
    fn dead_letters_are_told_once_in_ten_minutes_and_none_is_forgotten() {
        let (mut changes, now) = (Changes::default(), Timestamp(0));
        let first = changes.notice(&id(), &dead(2), now).unwrap();
        assert_eq!(first.dead_letters, Some(2));
        assert!(!first.text.contains("secret"), "{}", first.text);
        assert_eq!(changes.notice(&id(), &dead(3), now.plus(MINUTE)), None);
        assert_eq!(changes.notice(&id(), &dead(4), now.plus(9 * MINUTE)), None);
        assert_eq!(changes.due(now.plus(9 * MINUTE)), []);
        let later = changes.due(now.plus(10 * MINUTE));
        assert_eq!(later.len(), 1);
        assert_eq!(later[0].dead_letters, Some(7));
        assert_eq!(changes.due(now.plus(20 * MINUTE)), []);
        assert_eq!(
            changes
                .notice(&id(), &dead(1), now.plus(40 * MINUTE))
                .unwrap()
                .dead_letters,
            Some(1)
        );
        let other = DestinationId("other".into());
        assert!(changes.notice(&other, &dead(1), now.plus(40 * MINUTE)).is_some());
    }

    #[test]
    fn a_store_that_fills_is_told_once_each_way() {
        let (mut changes, now) = (Changes::default(), Timestamp(0));
        let space = |bytes: u64, full_at| Space {
            bytes,
            free_bytes: 50,
            max_bytes: 100,
            history_bytes: 0,
            catalog_bytes: 0,
            full_at,
        };
        let mut told = Vec::new();
        for (bytes, full_at) in [
            (10, None),
            (90, None),
            (95, None),
            (85, None),
            (92, None),
            (99, Some(now)),
            (99, Some(now)),
            (95, None),
            (70, None),
            (91, None),
        ] {
            told.extend(changes.space(&space(bytes, full_at), now).map(|alert| alert.what));
        }
        assert_eq!(told, ["store_filling", "store_full", "store_free", "store_filling"]);
    }

    #[test]
    fn a_title_cannot_command_slack() {
        let alert = about("held", &id(), Timestamp(0), "<!channel> & more".to_owned());
        assert_eq!(alert.text, "&lt;!channel&gt; &amp; more");
        let json = serde_json::to_value(&alert).unwrap();
        assert_eq!(json["what"], "held");
        assert_eq!(json["destination"], "marketing");
        assert!(json["run"].is_null());
    }

    #[test]
    fn held_and_free_are_told_with_the_reason_alone() {
        let mut changes = Changes::default();
        let held = Notice::Held {
            reason: "it refuses the write key (P0001)".to_owned(),
            words: "hush".to_owned(),
        };
        let told = changes.notice(&id(), &held, Timestamp(5)).unwrap();
        assert_eq!(told.what, "held");
        assert!(
            told.text.contains("P0001") && !told.text.contains("hush"),
            "{}",
            told.text
        );
        assert_eq!(changes.notice(&id(), &Notice::Free, Timestamp(6)).unwrap().what, "free");
        assert_eq!(changes.notice(&id(), &Notice::Recovered, Timestamp(7)), None);
    }

    #[test]
    fn a_crowd_of_destinations_is_summed_up_and_hides_no_named_one() {
        let (mut changes, start) = (Changes::default(), Timestamp(0).plus(60 * MINUTE));
        let crowd = |number: u64| DestinationId(format!("{number:012x}").into());
        let held = Notice::Held {
            reason: "it refuses the write key (P0001)".to_owned(),
            words: String::new(),
        };
        let told = (0..90).filter_map(|number| changes.notice(&crowd(number), &held, start));
        let told: Vec<Alert> = told.collect();
        assert_eq!(told.len(), CROWD_MOST as usize);
        assert!(told.iter().all(Alert::is_of_the_crowd));
        let flaps = (0..90).filter_map(|_| changes.notice(&crowd(1), &Notice::Free, start.plus(MINUTE)));
        assert_eq!(flaps.count(), 0);
        for notice in [&held, &Notice::Free, &dead(1)] {
            let alert = changes.notice(&id(), notice, start.plus(MINUTE)).unwrap();
            assert!(!alert.is_of_the_crowd());
        }
        assert_eq!(changes.due(start.plus(9 * MINUTE)), []);
        let sum = changes.due(start.plus(10 * MINUTE));
        assert_eq!(sum.len(), 1);
        assert!(
            sum[0].is_of_the_crowd() && sum[0].text.starts_with("164 more"),
            "{}",
            sum[0].text
        );
        assert!(changes.notice(&crowd(1), &held, start.plus(11 * MINUTE)).is_some());
        assert_eq!(changes.due(start.plus(30 * MINUTE)), []);
    }
}
