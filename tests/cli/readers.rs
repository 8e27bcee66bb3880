//! Data sets in the layouts of others, and the commands about data.
