//! Room that comes back to be used again: fresh pages cost more than the numbers in them.

use std::cell::RefCell;

/// Numbers that rooms are made of.
pub(crate) trait Number: Copy + Default + 'static {
    /// Calls `with` with this thread's buffers that were given back; none where the thread is ending.
    fn with<R>(with: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> Option<R>;
}

macro_rules! number {
    ($number:ty) => {
        impl Number for $number {
            fn with<R>(with: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> Option<R> {
                thread_local! {
                    static ROOM: RefCell<Vec<Vec<$number>>> = const { RefCell::new(Vec::new()) };
                }
                ROOM.try_with(|room| with(&mut room.borrow_mut())).ok()
            }
        }
    };
}
number!(f32);
number!(u32);

/// A buffer of so many numbers or more, with anything in it.
pub(crate) fn room<T: Number>(length: usize) -> Vec<T> {
    let waiting = T::with(|room| room.pop()).flatten();
    let mut numbers = waiting.unwrap_or_default();
    if numbers.len() < length {
        numbers.resize(length, T::default());
    }
    numbers
}

/// Gives a buffer back, for whoever on this thread asks next.
pub(crate) fn give_back<T: Number>(numbers: Vec<T>) {
    /// More than a pass holds at once; what a step packed of weights goes.
    const MOST: usize = 8;
    T::with(|room| {
        if room.len() < MOST {
            room.push(numbers);
        }
    });
}
