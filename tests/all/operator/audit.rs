//! Audits as scripts read them: the counts, and each row that did not arrive with its reason.

use serde_json::json;

use super::fixture::night;
use super::scripts::{json_of, lines, ok};

#[test]
fn an_audit_is_equal_to_a_recount() {
    let (place, ids) = night();
    let audit = json_of(&place, &["audit"]);
    let recount = lines(&ok(&place, &["events"]));
    let of = |state: &str| recount.iter().filter(|line| line["state"] == state).count() as u64;
    assert_eq!(audit["delivered"], of("delivered"));
    assert_eq!(audit["waiting"], of("pending"));
    assert_eq!(audit["dead"], of("dead") + 1, "and the row that became no event");
    assert_eq!(audit["rows"], 12 * 3 + 3);
    assert_eq!(audit["runs"].as_array().unwrap().len(), 4);
    let rows = json_of(&place, &["audit", "--run", &ids[0], "--rows"]);
    assert_eq!(
        rows["details"],
        json!([
            {"run": ids[0], "row": 5, "user": null, "state": "dead",
             "reason": "row has neither userId, anonymousId nor email", "last_attempt": null},
            {"run": ids[0], "row": 12, "user": "u12", "state": "dead", "reason": "400: the traits are of no use",
             "last_attempt": {"at": "2026-07-30T04:01:01.000Z", "answer": "200 OK"}}
        ])
    );
    let csv = ok(&place, &["audit", "--run", &ids[0], "--all-rows", "--csv"]).data;
    assert_eq!(csv.lines().count(), 1 + 12);
    assert!(
        csv.contains(&format!("{},1,u1,delivered,,2026-07-30T04:01:01.000Z,200 OK", ids[0])),
        "{csv}"
    );
    let of_one = json_of(&place, &["audit", "--user", "u12"]);
    assert_eq!(
        (&of_one["rows"], &of_one["dead"], &of_one["waiting"]),
        (&json!(3), &json!(1), &json!(2))
    );
}

#[test]
fn a_dropped_row_keeps_its_reason_in_every_form() {
    let (place, ids) = night();
    let wanted = [
        "row has neither userId, anonymousId nor email",
        "400: the traits are of no use",
    ];
    ok(&place, &["dead", "drop", "--run", &ids[0], "--yes"]);
    let rows = json_of(&place, &["audit", "--run", &ids[0], "--rows"]);
    let told: Vec<_> = rows["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["state"], row["reason"]]))
        .collect();
    assert_eq!(told, wanted.map(|reason| json!(["dropped", reason])));
    for form in [["--rows", "--csv"].as_slice(), &["--rows"]] {
        let text = ok(&place, &[&["audit", "--run", &ids[0]], form].concat()).data;
        // A table cuts what is long.
        assert!(wanted.iter().all(|reason| text.contains(&reason[..20])), "{text}");
    }
}
