//! Room that comes back to be used again: fresh pages cost more than the numbers in them.

use std::sync::Mutex;

/// A slice of numbers that returns to the common room when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer(Vec<f32>);

static ROOM: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

impl Buffer {
    /// Of this length, with anything in it.
    pub fn take(length: usize) -> Self {
        if length == 0 {
            return Self(vec![]);
        }
        let mut room = ROOM.lock().unwrap_or_else(|e| e.into_inner());
        let found = room.iter().position(|buffer| buffer.len() == length);
        let found = found.map(|place| room.swap_remove(place));
        drop(room);
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
        /// As many as a model's layers and threads keep in use, several times over.
        const MOST: usize = 256;
        if self.0.is_empty() {
            return;
        }
        let mut room = ROOM.lock().unwrap_or_else(|e| e.into_inner());
        if room.len() == MOST {
            room.remove(0);
        }
        room.push(std::mem::take(&mut self.0));
    }
}
