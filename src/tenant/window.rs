//! One namespace's last minute: how many items were taken when, so that no minute has more of them than it may.

use std::collections::VecDeque;
use std::time::Duration;

/// Items that were taken within so long count as taken at its end, in milliseconds. The shorter, the less a
/// minute's items wait beyond it; the longer, the less there is to remember.
const SLOT_MS: u64 = 250;
/// Slots that a minute reaches back over, beside the one of now.
const SLOTS: u64 = 60_000 / SLOT_MS;

/// What was taken in the last minute. It is exact to a quarter of a second, on the safe side: an item counts for a
/// minute and up to that much longer.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// Those of the last minute in which something was taken, the oldest first.
    slots: VecDeque<Slot>,
    /// What is in them.
    sum: u64,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    number: u64,
    count: u32,
}

impl Slot {
    /// When it counts no more.
    fn ends_ms(self) -> u64 {
        (self.number + SLOTS + 1) * SLOT_MS
    }
}

impl Window {
    /// Takes up to `wanted` items, as many as a minute may still have of `most`.
    pub(super) fn take(&mut self, wanted: u32, most: u32, now_ms: u64) -> u32 {
        self.pass(now_ms);
        let room = u64::from(most).saturating_sub(self.sum);
        let granted = wanted.min(u32::try_from(room).unwrap_or(u32::MAX));
        if granted > 0 {
            let number = now_ms / SLOT_MS;
            match self.slots.back_mut() {
                Some(last) if last.number == number => last.count += granted,
                _ => self.slots.push_back(Slot {
                    number,
                    count: granted,
                }),
            }
            self.sum += u64::from(granted);
        }
        granted
    }

    /// Gives back `count` of what was taken at `at_ms`; what counts no more does not come back twice.
    pub(super) fn give_back(&mut self, count: u32, at_ms: u64) {
        let number = at_ms / SLOT_MS;
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.number == number) {
            let back = count.min(slot.count);
            slot.count -= back;
            self.sum -= u64::from(back);
        }
    }

    /// How many the last minute has.
    pub(super) fn taken(&mut self, now_ms: u64) -> u64 {
        self.pass(now_ms);
        self.sum
    }

    /// Time until the minute may have one more of `most`.
    pub(super) fn wait(&mut self, most: u32, now_ms: u64) -> Duration {
        self.pass(now_ms);
        let mut left = self.sum;
        let mut slots = self.slots.iter();
        let mut ends_ms = now_ms;
        while left >= u64::from(most) {
            let Some(slot) = slots.next() else { break };
            left -= u64::from(slot.count);
            ends_ms = slot.ends_ms();
        }
        Duration::from_millis(ends_ms.saturating_sub(now_ms))
    }

    /// Time until nothing of the minute is taken.
    pub(super) fn reset(&mut self, now_ms: u64) -> Duration {
        self.pass(now_ms);
        let last = self.slots.iter().rfind(|slot| slot.count > 0);
        let ends_ms = last.map_or(now_ms, |slot| slot.ends_ms());
        Duration::from_millis(ends_ms.saturating_sub(now_ms))
    }

    fn pass(&mut self, now_ms: u64) {
        while let Some(first) = self.slots.front()
            && first.ends_ms() <= now_ms
        {
            self.sum -= u64::from(first.count);
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything that was taken and not given back, and when.
    #[derive(Default)]
    struct Model(Vec<(u64, u32)>);

    impl Model {
        /// What counts at `now_ms`, when all of a slot counts to the end of its last moment.
        fn counted(&self, now_ms: u64) -> u32 {
            let counts = |(at_ms, _): &&(u64, u32)| now_ms < (at_ms / SLOT_MS + 1) * SLOT_MS + 60_000;
            self.0.iter().filter(counts).map(|(_, count)| count).sum()
        }

        /// The most that any sixty seconds have.
        fn fullest_minute(&self) -> u32 {
            let within = |end: u64| {
                let is_in = move |(at_ms, _): &&(u64, u32)| *at_ms <= end && at_ms + 60_000 > end;
                self.0.iter().filter(is_in).map(|(_, count)| count).sum()
            };
            self.0.iter().map(|(at_ms, _)| within(*at_ms)).max().unwrap_or(0)
        }
    }

    proptest! {
        #[test]
        fn no_minute_has_more_than_it_may_and_none_is_cheated(
            most in 1_u32..300,
            steps in prop::collection::vec((0_u64..9_000, 0_u32..400, 0_u32..6), 1..120),
        ) {
            let (mut window, mut model, mut now_ms) = (Window::default(), Model::default(), 0);
            for (wait_ms, wanted, back) in steps {
                now_ms += wait_ms;
                let counted = model.counted(now_ms);
                prop_assert_eq!(window.taken(now_ms), u64::from(counted));
                let granted = window.take(wanted, most, now_ms);
                prop_assert_eq!(granted, wanted.min(most - counted));
                model.0.push((now_ms, granted));
                if granted < wanted {
                    let wait_ms = window.wait(most, now_ms).as_millis() as u64;
                    prop_assert!(wait_ms > 0);
                    prop_assert_eq!(model.counted(now_ms + wait_ms - 1), most);
                    prop_assert!(model.counted(now_ms + wait_ms) < most);
                }
                // Some of an earlier take comes to nothing.
                let at = model.0.len().saturating_sub(1 + back as usize);
                let (at_ms, count) = &mut model.0[at];
                let back = back.min(*count);
                window.give_back(back, *at_ms);
                *count -= back;
                let reset_ms = window.reset(now_ms).as_millis() as u64;
                prop_assert_eq!(model.counted(now_ms + reset_ms), 0);
            }
            prop_assert!(model.fullest_minute() <= most);
        }
    }

    #[test]
    fn a_minute_that_is_lowered_waits_until_it_has_room() {
        let mut window = Window::default();
        for second in 0..10 {
            assert_eq!(window.take(10, 100, second * 1_000), 10);
        }
        assert_eq!(window.take(1, 20, 10_000), 0);
        // Eight of ten seconds must have passed out of it, and one more item of the ninth.
        assert_eq!(window.wait(20, 10_000), Duration::from_millis(58_250));
        assert_eq!(window.reset(10_000), Duration::from_millis(59_250));
    }
}
