//! What is too large, too many or not a number is refused before any work.
