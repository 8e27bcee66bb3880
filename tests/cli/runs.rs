//! Run folders: two at once, edited, damaged, out of room.
