//! Room that comes back to be used again: fresh pages cost more than the numbers in them.
//!
//! What waits is never more than twice what was once in use at the same time. A training step, in
//! which every block's numbers are kept until the backward pass has come back to it, so finds all its
//! buffers again, those that take turns, too; and buffers of lengths that nobody asks for any more
//! make way for others.

use std::sync::{Mutex, MutexGuard};

/// A slice of numbers that returns to the common room when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer(Vec<f32>);

/// What waits, and how much there is.
#[derive(Debug)]
struct Room {
    /// The longest waiting first.
    waiting: Vec<Vec<f32>>,
    /// Numbers in what waits.
    idle: usize,
    /// Numbers in what is in use.
    used: usize,
    /// The most that was in use at once.
    most_used: usize,
}

static ROOM: Mutex<Room> = Mutex::new(Room::new());

/// Poisoned only by a panic, which ends the program anyway.
fn room() -> MutexGuard<'static, Room> {
    ROOM.lock().unwrap_or_else(|e| e.into_inner())
}

impl Room {
    const fn new() -> Self {
        Self {
            waiting: Vec::new(),
            idle: 0,
            used: 0,
            most_used: 0,
        }
    }

    /// A buffer of this length, if one waits.
    fn take(&mut self, length: usize) -> Option<Vec<f32>> {
        self.used += length;
        self.most_used = self.most_used.max(self.used);
        let place = self
            .waiting
            .iter()
            .position(|other| other.len() == length)?;
        self.idle -= length;
        Some(self.waiting.swap_remove(place))
    }

    /// Takes a buffer back; returns those that are let go for it.
    fn give(&mut self, buffer: Vec<f32>) -> Vec<Vec<f32>> {
        /// As many as a model's layers and threads keep in use, several times over: they are
        /// looked through one by one.
        const MOST: usize = 256;
        self.used -= buffer.len();
        self.idle += buffer.len();
        self.waiting.push(buffer);
        let mut gone = vec![];
        while self.idle > 2 * self.most_used || self.waiting.len() > MOST {
            let oldest = self.waiting.remove(0);
            self.idle -= oldest.len();
            gone.push(oldest);
        }
        gone
    }
}

impl Buffer {
    /// Of this length, with anything in it.
    pub fn take(length: usize) -> Self {
        if length == 0 {
            return Self(vec![]);
        }
        let found = room().take(length);
        Self(found.unwrap_or_else(|| vec![0.0; length]))
    }

    /// The numbers.
    pub fn get(&self) -> &[f32] {
        &self.0
    }

    /// The numbers, to be written.
    pub fn numbers(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let gone = room().give(std::mem::take(&mut self.0));
        // Freed when nobody waits for the room.
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_by_what_was_in_use_at_once() {
        let mut room = Room::new();
        let take = |room: &mut Room, length| room.take(length).unwrap_or(vec![0.0; length]);
        // A step: blocks' buffers are held together, and a scratch comes and goes.
        for step in 0..3 {
            let mut held = vec![];
            for _ in 0..4 {
                let before = room.waiting.len();
                held.push(take(&mut room, 100));
                assert!(step == 0 || room.waiting.len() < before, "found again");
                let scratch = take(&mut room, 30);
                assert!(room.give(scratch).is_empty());
            }
            for buffer in held {
                assert!(room.give(buffer).is_empty());
            }
            assert_eq!((room.used, room.most_used), (0, 430));
            assert!(room.idle <= 430);
        }
        // Other lengths take the place of those.
        for length in 1000..1100 {
            let buffer = take(&mut room, length);
            room.give(buffer);
            assert!(room.idle <= 2 * room.most_used);
        }
        assert_eq!(room.most_used, 1099);
        assert_eq!(room.waiting.len(), 2);
        // And however small, not more than can be looked through.
        let many: Vec<_> = (0..1000).map(|_| take(&mut room, 1)).collect();
        for buffer in many {
            room.give(buffer);
        }
        assert!(room.waiting.len() <= 256);
    }
}
