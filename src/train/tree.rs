//! Sums in one fixed tree.
//!
//! Floating-point sums depend on their order. Here the order is that of a binary tree whose shape
//! follows from the number of leaves alone:
//!
//! ```text
//! node (0, i)      = leaf i
//! node (level, i)  = node (level − 1, 2i) + node (level − 1, 2i + 1)
//!                    or node (level − 1, 2i) where it has no sibling
//!
//! five leaves:       ((a + b) + (c + d)) + e
//! ```
//!
//! So whoever computes a leaf, and whenever, the root has the same bits; and any branch can be
//! summed apart, by another thread or another process, without changing them.

use std::collections::HashMap;
use std::sync::Mutex;

/// A node's level, and its place in the level.
type Node = (u32, usize);

/// A sum under way. Threads hand in leaves in any order; each adds up, outside the lock, what its
/// leaf completes.
///
/// What is kept are nodes whose sibling is not done yet. When the leaves are begun in their order by
/// `n` threads, those are at most (n + 1) · ⌈log₂ leaves⌉: some beside the way from each leaf in work to
/// the root, and beside that of the first leaf not begun.
#[derive(Debug)]
pub struct Tree<T> {
    leaves: usize,
    waiting: Mutex<HashMap<Node, T>>,
}

impl<T> Tree<T> {
    /// The sum of so many leaves.
    pub fn new(leaves: usize) -> Self {
        Self {
            leaves,
            waiting: Mutex::default(),
        }
    }

    /// Hands in a leaf, each once, and adds up what it completes: `add(left, right)`.
    pub fn put(&self, leaf: usize, value: T, add: impl Fn(T, T) -> T) {
        let (mut level, mut place, mut width) = (0, leaf, self.leaves);
        let mut sum = value;
        while width > 1 {
            let sibling = place ^ 1;
            if sibling < width {
                // Poisoned only by a panic, which ends the program anyway.
                let mut waiting = self.waiting.lock().unwrap_or_else(|e| e.into_inner());
                let Some(other) = waiting.remove(&(level, sibling)) else {
                    waiting.insert((level, place), sum);
                    return;
                };
                drop(waiting);
                sum = if place < sibling {
                    add(sum, other)
                } else {
                    add(other, sum)
                };
            }
            (level, place, width) = (level + 1, place / 2, width.div_ceil(2));
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(|e| e.into_inner());
        waiting.insert((level, 0), sum);
    }

    /// The root; none as long as a leaf is missing, and none of no leaves.
    pub fn root(self) -> Option<T> {
        // ⌈log₂ leaves⌉
        let level = usize::BITS - self.leaves.saturating_sub(1).leading_zeros();
        let waiting = self.waiting.into_inner();
        waiting
            .unwrap_or_else(|e| e.into_inner())
            .remove(&(level, 0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::random::{Purpose, Stream};

    /// The definition, word for word.
    fn node(leaves: &[f32], level: u32, place: usize) -> f32 {
        if level == 0 {
            return leaves[place];
        }
        let below = (0..level - 1).fold(leaves.len(), |width, _| width.div_ceil(2));
        let left = node(leaves, level - 1, 2 * place);
        if 2 * place + 1 < below {
            left + node(leaves, level - 1, 2 * place + 1)
        } else {
            left
        }
    }

    #[test]
    fn the_tree_has_the_shape_of_its_definition() {
        for (leaves, expected) in [
            ("a", "a"),
            ("ab", "(a+b)"),
            ("abc", "((a+b)+c)"),
            ("abcde", "(((a+b)+(c+d))+e)"),
            ("abcdef", "(((a+b)+(c+d))+(e+f))"),
        ] {
            let tree = Tree::new(leaves.len());
            for (place, leaf) in leaves.char_indices().rev() {
                tree.put(place, leaf.to_string(), |a, b| format!("({a}+{b})"));
            }
            assert_eq!(tree.root().unwrap(), expected);
        }
        assert_eq!(Tree::<f32>::new(0).root(), None);
        let tree = Tree::new(3);
        tree.put(0, 1.0, |a, b| a + b);
        tree.put(2, 1.0, |a, b| a + b);
        assert_eq!(tree.root(), None, "a leaf is missing");
    }

    #[test]
    fn the_bits_do_not_depend_on_who_is_done_when() {
        let mut stream = Stream::new(3, Purpose::Show, 0, 0);
        for count in 1..=37usize {
            // Of many sizes, so that the order of additions shows in the bits.
            let leaves: Vec<f32> = (0..count)
                .map(|_| stream.uniform(-1.0, 1.0) * 10f32.powi(stream.below(9) as i32))
                .collect();
            let top = count.next_power_of_two().ilog2();
            let expected = node(&leaves, top, 0).to_bits();
            for threads in [1, 2, 3, 5] {
                let mut order: Vec<usize> = (0..count).collect();
                stream.shuffle(&mut order);
                let (tree, next) = (Tree::new(count), AtomicUsize::new(0));
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| {
                            while let Some(&leaf) = order.get(next.fetch_add(1, Ordering::Relaxed))
                            {
                                tree.put(leaf, leaves[leaf], |a, b| a + b);
                            }
                        });
                    }
                });
                let found = tree.root().unwrap().to_bits();
                assert_eq!(found, expected, "{count} leaves, {threads} threads");
            }
        }
    }

    #[test]
    fn few_nodes_wait() {
        // The worst case: one thread sits on the first leaf while another does all others.
        let tree = Tree::new(1000);
        for leaf in 1..1000 {
            tree.put(leaf, 1, |a, b| a + b);
            assert!(tree.waiting.lock().unwrap().len() <= 3 * 10);
        }
        tree.put(0, 1, |a, b| a + b);
        assert_eq!(tree.root(), Some(1000));
    }
}
