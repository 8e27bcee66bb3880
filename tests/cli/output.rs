//! Where results and notes go, and what happens when they cannot go there.
