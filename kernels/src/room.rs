//! Room that comes back to be used again: fresh pages cost more than the numbers in them.

use std::cell::RefCell;

/// Numbers that rooms are made of.
pub(crate) trait Number: Copy + Default + 'static {
    /// Calls `with` with this thread's buffers that were given back.
    fn with<R>(with: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> R;
}

macro_rules! number {
    ($number:ty) => {
        impl Number for $number {
            fn with<R>(with: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> R {
                thread_local! {
                    static ROOM: RefCell<Vec<Vec<$number>>> = const { RefCell::new(Vec::new()) };
                }
                ROOM.with_borrow_mut(with)
            }
        }
    };
}
number!(f32);
number!(u32);

/// A buffer of so many numbers or more, with anything in it.
pub(crate) fn room<T: Number>(length: usize) -> Vec<T> {
    let mut numbers = T::with(|room| room.pop()).unwrap_or_default();
    if numbers.len() < length {
        numbers.resize(length, T::default());
    }
    numbers
}

/// Gives a buffer back, for whoever on this thread asks next.
pub(crate) fn give_back<T: Number>(numbers: Vec<T>) {
    /// More than any kernel holds at once.
    const MOST: usize = 8;
    T::with(|room| {
        if room.len() < MOST {
            room.push(numbers);
        }
    });
}
