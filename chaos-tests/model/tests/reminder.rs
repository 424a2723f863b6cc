//! Rule 5, *anchor*: the way to a reminder that renews, action by action.

use weir_coord_core::rules::{Mutation, Rules};
use weir_model_check::directed::way;

#[test]
fn a_reminder_that_renews_outlives_what_the_next_leader_waits_for() {
    let way = way(Mutation::AnchorAtReminder).expect("it is written down");
    assert!(way(Rules::ALL).is_none());
    let led = way(Rules::without(Mutation::AnchorAtReminder)).expect("it is found");
    println!("{}", led.trace);
    assert_eq!(led.violation.broken.invariant, "I6");
}
