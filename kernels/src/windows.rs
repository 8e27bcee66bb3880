//! A grid of tokens cut into square windows, in which tokens attend to each other alone (Liu and others,
//! *Swin Transformer*, arXiv 2103.14030, section 3.2).
//!
//! Every second layer rolls the grid by half a window before it is cut, so that neighbours that a border
//! keeps apart in one layer meet in the next. What the roll brings together from opposite sides of the
//! grid lies in different *regions* of a window, which are kept apart by what is added to their scores
//! (section 3.3).

/// Square windows on a grid of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens along the grid's height.
    pub height: usize,
    /// Tokens along its width.
    pub width: usize,
    /// Tokens a side of a window; it divides both.
    pub side: usize,
    /// By how many tokens the grid is rolled up and to the left before it is cut; fewer than a side.
    pub shift: usize,
}

impl Windows {
    /// How many windows there are.
    pub fn count(&self) -> usize {
        (self.height / self.side) * (self.width / self.side)
    }

    /// Tokens of a window.
    pub fn tokens(&self) -> usize {
        self.side * self.side
    }

    /// Rows of the grid (and columns, where it is square) before which another window or region begins.
    pub fn borders(&self) -> Vec<usize> {
        let first = if self.shift == 0 {
            self.side
        } else {
            self.shift
        };
        (first..self.height).step_by(self.side).collect()
    }

    /// Row and column, in the rolled grid, of a window's token; windows and tokens go row by row.
    fn cell(&self, window: usize, token: usize) -> (usize, usize) {
        let across = self.width / self.side;
        let (row, column) = (window / across * self.side, window % across * self.side);
        (row + token / self.side, column + token % self.side)
    }

    /// The number in the grid of each of a window's tokens.
    pub fn members(&self, window: usize) -> impl Iterator<Item = usize> {
        let windows = *self;
        (0..self.tokens()).map(move |token| {
            let (row, column) = windows.cell(window, token);
            let (row, column) = (row + windows.shift, column + windows.shift);
            row % windows.height * windows.width + column % windows.width
        })
    }

    /// Which region each of a window's tokens lies in: those of one are neighbours in the grid, too. None
    /// where all of them are.
    pub fn regions(&self, window: usize) -> Option<Vec<u8>> {
        let region = |token| {
            let (row, column) = self.cell(window, token);
            3 * self.band(row, self.height) + self.band(column, self.width)
        };
        let last = self.tokens() - 1;
        (region(0) != region(last)).then(|| (0..=last).map(region).collect())
    }

    /// Rows (or columns) of the rolled grid that stayed; that stayed in a window with others; that came
    /// round from the other side.
    fn band(&self, at: usize, length: usize) -> u8 {
        match self.shift {
            0 => 0,
            _ if at < length - self.side => 0,
            shift if at < length - shift => 1,
            _ => 2,
        }
    }

    /// Copies a window's rows, `width` numbers of each, out of a grid's, which lie `stride` apart.
    pub fn gather(&self, window: usize, grid: &[f32], stride: usize, width: usize, to: &mut [f32]) {
        for (token, to) in self.members(window).zip(to.chunks_exact_mut(width)) {
            to.copy_from_slice(&grid[token * stride..][..width]);
        }
    }

    /// And back.
    pub fn scatter(
        &self,
        window: usize,
        from: &[f32],
        width: usize,
        grid: &mut [f32],
        stride: usize,
    ) {
        for (token, from) in self.members(window).zip(from.chunks_exact(width)) {
            grid[token * stride..][..width].copy_from_slice(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(windows: Windows) -> Vec<Vec<usize>> {
        let of = |window| windows.members(window).collect();
        (0..windows.count()).map(of).collect()
    }

    #[test]
    fn windows_cut_the_grid_row_by_row() {
        let windows = Windows {
            height: 2,
            width: 4,
            side: 2,
            shift: 0,
        };
        assert_eq!(members(windows), [[0, 1, 4, 5], [2, 3, 6, 7]]);
        assert_eq!(windows.regions(1), None);
        assert!(windows.borders().is_empty());
    }

    #[test]
    fn a_shift_brings_both_sides_together_and_keeps_them_apart() {
        let windows = Windows {
            height: 4,
            width: 4,
            side: 2,
            shift: 1,
        };
        let all = members(windows);
        assert_eq!(all[0], [5, 6, 9, 10]);
        assert_eq!(all[3], [15, 12, 3, 0]);
        assert_eq!(windows.borders(), [1, 3]);
        // In the first window all are neighbours, in the last none.
        assert_eq!(windows.regions(0), None);
        assert_eq!(windows.regions(1), Some(vec![1, 2, 1, 2]));
        assert_eq!(windows.regions(3), Some(vec![4, 5, 7, 8]));
        let mut each: Vec<usize> = all.concat();
        each.sort_unstable();
        assert!(each.into_iter().eq(0..16));
    }

    #[test]
    fn rows_come_back_to_where_they_were() {
        let windows = Windows {
            height: 4,
            width: 6,
            side: 2,
            shift: 1,
        };
        let grid: Vec<f32> = (0..24 * 3).map(|i| i as f32).collect();
        let mut back = vec![-1.0; 24 * 3];
        for window in 0..windows.count() {
            let mut part = [0.0; 4 * 2];
            windows.gather(window, &grid[1..], 3, 2, &mut part);
            windows.scatter(window, &part, 2, &mut back[1..], 3);
        }
        let untouched = |i: usize| i.is_multiple_of(3);
        for (i, (back, grid)) in back.iter().zip(&grid).enumerate() {
            assert_eq!(*back, if untouched(i) { -1.0 } else { *grid });
        }
    }
}
