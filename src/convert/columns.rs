//! The plan of a run: which column goes where and under which name. Made once, from the document's `fields`, the
//! configuration and the form, before a single row is converted; a query that cannot identify anybody ends here.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::value::RawValue;

use super::field::Field;
use super::row::Keys;
use super::text;
use super::{Limits, RefusedKind, RunContext};
use crate::config::{ColumnNames, Events};
use crate::event::{Action, IdColumns};

/// The groups of `fields` that hold columns, in the order of an event's keys. `pivots` are headers.
const GROUPS: [&str; 5] = ["dimensions", "measures", "table_calculations", "filters", "parameters"];

/// What a column's tag makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Role {
    UserId,
    AnonymousId,
    GroupId,
    Email,
    EventName,
    Timestamp,
}

impl Role {
    fn of(tag: &str, action: Action) -> Option<Self> {
        Some(match tag {
            "user_id" => Self::UserId,
            "email" => Self::Email,
            "rudder_anonymous_id" => Self::AnonymousId,
            "rudder_group_id" => Self::GroupId,
            "rudder_event_name" if action == Action::Track => Self::EventName,
            "rudder_timestamp" => Self::Timestamp,
            _ => return None,
        })
    }
}

/// A column's place in [`Keys`] and in a row's cells.
pub(super) type Slot = usize;

/// A key of `traits` or `properties`.
#[derive(Debug)]
pub(super) struct Trait {
    /// Its column.
    pub(super) slot: Slot,
    /// `,"name":`
    pub(super) key: Box<[u8]>,
    /// Whether it is the tagged email, in which null stays null.
    pub(super) email: bool,
    /// Whether it is left out where the row lacks it: filters and parameters.
    pub(super) optional: bool,
}

/// Which column goes where.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// All columns, to find them in rows.
    pub(super) keys: Keys,
    /// Their full names.
    names: Vec<String>,
    /// The keys of `traits` or `properties`, in their order.
    pub(super) traits: Vec<Trait>,
    /// `userId`
    pub(super) user_id: Option<Slot>,
    /// `anonymousId`
    pub(super) anonymous_id: Option<Slot>,
    /// `groupId`
    pub(super) group_id: Option<Slot>,
    /// `email`
    pub(super) email: Option<Slot>,
    /// `event`
    pub(super) event_name: Option<Slot>,
    /// `timestamp`
    pub(super) timestamp: Option<Slot>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlan {
    /// `fields` has a shape that Looker's never has.
    #[error("`fields` is no object of lists of columns")]
    Shape,
    /// Too many columns.
    #[error("the result has more than {0} columns: take some out of the look")]
    Columns(usize),
    /// A column's name is too long.
    #[error("a column's name has more than {0} bytes")]
    Name(usize),
    /// Nobody could be identified.
    #[error("Query requires a field tagged email or user_id or rudder_anonymous_id.")]
    Identity,
    /// A group call needs a group.
    #[error("Query requires a field tagged rudder_group_id.")]
    Group,
    /// A track call needs a name.
    #[error("Event is required: fill in the form's event, or tag a column rudder_event_name.")]
    EventName,
}

impl NoPlan {
    /// What kind of refusal it is.
    pub(super) const fn kind(&self) -> RefusedKind {
        match self {
            Self::Shape => RefusedKind::NotAResult,
            Self::Columns(_) | Self::Name(_) => RefusedKind::TooLarge,
            Self::Identity => RefusedKind::NoIdentityColumn,
            Self::Group => RefusedKind::NoGroupColumn,
            Self::EventName => RefusedKind::NoEventName,
        }
    }
}

struct Column {
    name: String,
    /// Its tags and whether they are the configuration's.
    tags: Vec<String>,
    configured: bool,
    optional: bool,
}

impl Plan {
    /// The plan for `fields`, which is JSON that was scanned before.
    pub(super) fn new(fields: &str, settings: &Events, context: &RunContext, limits: &Limits) -> Result<Self, NoPlan> {
        let columns = columns(fields, &settings.tags, limits)?;
        let roles = roles(&columns, context.action);
        if !roles
            .keys()
            .any(|role| matches!(role, Role::UserId | Role::AnonymousId | Role::Email))
        {
            return Err(NoPlan::Identity);
        }
        if context.action == Action::Group && !roles.contains_key(&Role::GroupId) {
            return Err(NoPlan::Group);
        }
        if context.action == Action::Track && context.form_event().is_none() && !roles.contains_key(&Role::EventName) {
            return Err(NoPlan::EventName);
        }
        let slot = |role: Role| roles.get(&role).copied();
        let mut plan = Self {
            traits: traits(&columns, &roles, settings, context),
            user_id: slot(Role::UserId),
            anonymous_id: slot(Role::AnonymousId),
            group_id: slot(Role::GroupId),
            email: slot(Role::Email),
            event_name: slot(Role::EventName),
            timestamp: slot(Role::Timestamp),
            ..Self::default()
        };
        for column in columns {
            plan.keys.add(&column.name);
            plan.names.push(column.name);
        }
        Ok(plan)
    }

    /// A column's full name, for a dead letter's reason.
    pub(super) fn name(&self, slot: Slot) -> &str {
        self.names.get(slot).map_or("", String::as_str)
    }

    /// The columns that say who a row is about.
    pub(super) fn id_columns(&self) -> IdColumns {
        let name = |slot: Option<Slot>| slot.map(|slot| self.name(slot).to_owned());
        IdColumns {
            user_id: name(self.user_id),
            anonymous_id: name(self.anonymous_id),
            email: name(self.email),
        }
    }
}

/// The columns in their order; of two with one name the first.
fn columns(fields: &str, configured: &BTreeMap<String, String>, limits: &Limits) -> Result<Vec<Column>, NoPlan> {
    type Object<'a> = HashMap<String, &'a RawValue>;
    let groups: Object<'_> = serde_json::from_str(fields).map_err(|_| NoPlan::Shape)?;
    let mut columns: Vec<Column> = Vec::new();
    let mut seen = HashSet::new();
    for group in GROUPS {
        let Some(group_fields) = groups.get(group) else {
            continue;
        };
        let group_fields: Option<Vec<&RawValue>> =
            serde_json::from_str(group_fields.get()).map_err(|_| NoPlan::Shape)?;
        for field in group_fields.unwrap_or_default() {
            let field: Option<Field<'_>> = serde_json::from_str(field.get()).map_err(|_| NoPlan::Shape)?;
            let Some(field) = field else { continue };
            // What has no name can have no cells.
            let Some(name) = field.name.and_then(string) else {
                continue;
            };
            if name.len() > limits.max_name_bytes {
                return Err(NoPlan::Name(limits.max_name_bytes));
            }
            if !seen.insert(name.clone()) {
                continue;
            }
            if columns.len() >= limits.max_columns {
                return Err(NoPlan::Columns(limits.max_columns));
            }
            let configured = configured.get(&name);
            let tags = match (configured, field.tags) {
                (Some(tag), _) => vec![tag.clone()],
                (None, Some(tags)) => strings(tags),
                (None, None) => Vec::new(),
            };
            columns.push(Column {
                name,
                tags,
                configured: configured.is_some(),
                optional: matches!(group, "filters" | "parameters"),
            });
        }
    }
    Ok(columns)
}

/// A JSON string's text, by the rules of rows' keys.
fn string(raw: &RawValue) -> Option<String> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    Some(text::unescape_name(inner).into_owned())
}

/// The strings of a list; anything else has none.
fn strings(raw: &RawValue) -> Vec<String> {
    serde_json::from_str::<Vec<&RawValue>>(raw.get())
        .map(|items| items.into_iter().filter_map(string).collect())
        .unwrap_or_default()
}

/// The first column with a tag wins; what the configuration tags comes before what the document does.
fn roles(columns: &[Column], action: Action) -> BTreeMap<Role, Slot> {
    let mut roles = BTreeMap::new();
    for configured in [true, false] {
        for (slot, column) in columns.iter().enumerate() {
            if column.configured == configured {
                for role in column.tags.iter().filter_map(|tag| Role::of(tag, action)) {
                    roles.entry(role).or_insert(slot);
                }
            }
        }
    }
    roles
}

fn traits(columns: &[Column], roles: &BTreeMap<Role, Slot>, settings: &Events, context: &RunContext) -> Vec<Trait> {
    const EMAIL: &str = "email";
    let hidden: HashSet<&str> = context.hidden_fields.iter().map(String::as_str).collect();
    let winners: HashSet<Slot> = roles.values().copied().collect();
    let email = roles.get(&Role::Email).copied();
    let full = |slot: Slot| columns.get(slot).map_or("", |column| column.name.as_str());
    // The slot and the name it is to have.
    let mut wanted: Vec<(Slot, &str)> = Vec::with_capacity(columns.len());
    for (slot, column) in columns.iter().enumerate() {
        let name = column.name.as_str();
        if email == Some(slot) {
            wanted.push((slot, EMAIL));
        } else if !winners.contains(&slot) && !hidden.contains(name) {
            let short = match settings.column_names {
                ColumnNames::ViewColumn => name,
                ColumnNames::Column => name.rsplit_once('.').map_or(name, |(_, column)| column),
            };
            let short = if short.is_empty() { name } else { short };
            wanted.push((slot, settings.rename.get(name).map_or(short, String::as_str)));
        }
    }
    // Those that collide keep their full names, which may collide with others' short ones: until none does.
    loop {
        let mut uses: HashMap<&str, usize> = HashMap::with_capacity(wanted.len());
        for (_, name) in &wanted {
            *uses.entry(name).or_default() += 1;
        }
        let mut changed = false;
        for (slot, name) in &mut wanted {
            let full = full(*slot);
            if uses.get(name).is_some_and(|uses| *uses > 1) && email != Some(*slot) && *name != full {
                *name = full;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    // Full names differ, so only a column named `email` can still collide, with the tagged one, which stays.
    wanted.retain(|(slot, name)| email.is_none() || email == Some(*slot) || *name != EMAIL);
    let optional = |slot: Slot| columns.get(slot).is_some_and(|column| column.optional);
    wanted
        .into_iter()
        .map(|(slot, name)| {
            let mut key = vec![b','];
            text::write(name, &mut key);
            key.push(b':');
            Trait {
                slot,
                key: key.into(),
                email: email == Some(slot),
                optional: optional(slot),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::support::context;
    use super::*;

    fn plan(fields: &str, settings: &Events, action: Action) -> Result<Plan, NoPlan> {
        let context = RunContext {
            hidden_fields: vec!["h.hidden".to_owned()],
            event_name: Some(" ".to_owned()),
            ..context(action)
        };
        Plan::new(fields, settings, &context, &Limits::default())
    }

    fn names(plan: &Plan) -> Vec<(&str, String)> {
        plan.traits
            .iter()
            .map(|t| {
                (
                    plan.name(t.slot),
                    String::from_utf8(t.key[2..t.key.len() - 2].to_vec()).unwrap(),
                )
            })
            .collect()
    }

    fn events(change: impl FnOnce(&mut Events)) -> Events {
        let mut events = Events::default();
        change(&mut events);
        events
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    const FIELDS: &str = r#"{"measures":[{"name":"o.count"},{"name":"u.id2","tags":["user_id"]}],
        "pivots":[{"name":"o.year","tags":["user_id"]}],"filters":null,"parameters":[{"name":"p.x","tags":[]}],
        "dimensions":[{"name":"u.id","tags":["x","user_id"]},{"name":"h.hidden","tags":["email"]},{"name":"u.name","tags":null},{"name":"u.name"}],
        "table_calculations":[{"name":"name"}]}"#;

    #[test]
    fn the_first_column_with_a_tag_wins_and_the_rest_are_traits() {
        let plan = plan(FIELDS, &Events::default(), Action::Identify).unwrap();
        assert_eq!(plan.user_id.map(|slot| plan.name(slot)), Some("u.id"));
        let expected = [
            ("h.hidden", "email"),
            ("u.name", "u.name"),
            ("o.count", "o.count"),
            ("u.id2", "u.id2"),
            ("name", "name"),
            ("p.x", "p.x"),
        ];
        assert_eq!(names(&plan), expected.map(|(column, name)| (column, name.to_owned())));
        assert!(
            plan.traits
                .iter()
                .all(|t| t.optional == (plan.name(t.slot) == "p.x") && t.email == (plan.name(t.slot) == "h.hidden"))
        );
    }

    #[test]
    fn the_configuration_s_tags_win_over_the_document_s() {
        let settings = events(|events| events.tags = map(&[("o.count", "user_id"), ("h.hidden", "rudder_event_name")]));
        let plan = plan(FIELDS, &settings, Action::Track).unwrap();
        assert_eq!(plan.user_id.map(|slot| plan.name(slot)), Some("o.count"));
        assert_eq!(plan.event_name.map(|slot| plan.name(slot)), Some("h.hidden"));
        assert_eq!(plan.email, None);
        assert!(names(&plan).contains(&("u.id", "u.id".to_owned())));
    }

    #[test]
    fn short_names_and_renames_never_make_one_key_twice() {
        let short = events(|events| events.column_names = ColumnNames::Column);
        let fields = r#"{"dimensions":[{"name":"u.id","tags":["user_id"]},{"name":"a.email"},{"name":"b.mail","tags":["email"]},{"name":"a.n"},{"name":"b.n"},{"name":"a.x"},{"name":"x"},{"name":"a.y"},{"name":"email"}]}"#;
        let made = plan(fields, &short, Action::Identify).unwrap();
        let expected = [
            ("a.email", "a.email"),
            ("b.mail", "email"),
            ("a.n", "a.n"),
            ("b.n", "b.n"),
            ("a.x", "a.x"),
            ("x", "x"),
            ("a.y", "y"),
        ];
        assert_eq!(names(&made), expected.map(|(column, name)| (column, name.to_owned())));
        let renamed = events(|events| {
            events.rename = map(&[("a.n", "N\"1"), ("a.x", "x"), ("a.y", "b.n"), ("a.email", "email")])
        });
        let made = plan(fields, &renamed, Action::Identify).unwrap();
        let expected = [
            ("a.email", "a.email"),
            ("b.mail", "email"),
            ("a.n", "N\\\"1"),
            ("b.n", "b.n"),
            ("a.x", "a.x"),
            ("x", "x"),
            ("a.y", "a.y"),
        ];
        assert_eq!(names(&made), expected.map(|(column, name)| (column, name.to_owned())));
        let untagged = r#"{"dimensions":[{"name":"u.id","tags":["user_id"]},{"name":"email"}]}"#;
        assert_eq!(
            names(&plan(untagged, &short, Action::Identify).unwrap()),
            [("email", "email".to_owned())]
        );
    }

    #[test]
    fn a_query_that_cannot_work_is_refused() {
        let default = Events::default();
        for (fields, action, expected) in [
            ("[]", Action::Identify, NoPlan::Shape),
            ("null", Action::Identify, NoPlan::Shape),
            (r#"{"dimensions":{}}"#, Action::Identify, NoPlan::Shape),
            (
                r#"{"dimensions":[null,{"label":"x"},{"name":7,"tags":["user_id"]}]}"#,
                Action::Identify,
                NoPlan::Identity,
            ),
            ("{}", Action::Identify, NoPlan::Identity),
            (
                r#"{"dimensions":[{"name":"a","tags":["User_id"," email","rudder_group_id"]}]}"#,
                Action::Group,
                NoPlan::Identity,
            ),
            (
                r#"{"dimensions":[{"name":"a","tags":["user_id"]}]}"#,
                Action::Group,
                NoPlan::Group,
            ),
            (
                r#"{"dimensions":[{"name":"a","tags":["user_id"]}]}"#,
                Action::Track,
                NoPlan::EventName,
            ),
        ] {
            assert_eq!(plan(fields, &default, action).unwrap_err(), expected, "{fields}");
        }
        let many: Vec<_> = (0..4097)
            .map(|column| format!(r#"{{"name":"c.{column}","tags":["user_id"]}}"#))
            .collect();
        assert_eq!(
            plan(
                &format!(r#"{{"dimensions":[{}]}}"#, many.join(",")),
                &default,
                Action::Identify
            )
            .unwrap_err(),
            NoPlan::Columns(4096)
        );
        let long = format!(r#"{{"dimensions":[{{"name":"{}"}}]}}"#, "n".repeat(4097));
        assert_eq!(plan(&long, &default, Action::Identify).unwrap_err(), NoPlan::Name(4096));
    }
}
