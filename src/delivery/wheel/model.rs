//! The wheel compared with a list.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Op {
    /// A timer so many milliseconds from now, or before.
    Enter(i64),
    /// So many milliseconds pass.
    Pass(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (-500..2_000_i64).prop_map(Op::Enter),
        1 => (2_000..400_000_i64).prop_map(Op::Enter),
        3 => (0..700_u64).prop_map(Op::Pass),
        1 => (700..250_000_u64).prop_map(Op::Pass),
    ];
    prop::collection::vec(op, 1..100)
}

proptest! {
    #[test]
    fn each_timer_is_called_once_within_a_tick_of_its_time(ops in ops()) {
        let began = Instant::now();
        let mut wheel = Wheel::new(began);
        let (mut passed, mut names) = (0_u64, 0..);
        // Names, and when they are due in milliseconds.
        let mut entered: Vec<(u32, u64)> = Vec::new();
        let mut due = Vec::new();
        // Past the last of them.
        for op in ops.into_iter().chain([Op::Pass(400_000)]) {
            match op {
                Op::Enter(ahead) => {
                    let name = names.next().expect("endless");
                    let at = passed.saturating_add_signed(ahead);
                    let tick = wheel.tick_of(began + Duration::from_millis(at));
                    prop_assert!(wheel.is_to_come(tick));
                    wheel.enter(tick, name);
                    // Not in a tick that is over.
                    entered.push((name, at.next_multiple_of(100).max(passed / 100 * 100 + 100)));
                }
                Op::Pass(time) => {
                    passed += time;
                    wheel.advance(began + Duration::from_millis(passed), &mut due);
                    let mut expected: Vec<u32> = entered
                        .extract_if(.., |(_, at)| *at <= passed)
                        .map(|(name, _)| name)
                        .collect();
                    expected.sort_unstable();
                    due.sort_unstable();
                    prop_assert_eq!(std::mem::take(&mut due), expected);
                }
            }
            let now = began + Duration::from_millis(passed);
            let first = entered.iter().map(|(_, at)| *at).min();
            match (wheel.next(), first) {
                (None, None) => {}
                (Some(next), Some(first)) => {
                    prop_assert!(next > now, "no progress");
                    prop_assert!(next <= began + Duration::from_millis(first), "too late");
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        prop_assert_eq!(wheel.len, 0);
    }
}
