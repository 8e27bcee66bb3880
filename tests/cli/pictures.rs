//! Folders of pictures as people have them.
