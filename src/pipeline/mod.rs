//! Composition only: extract (one capture to partial rows), judge (all rows of a site to an audit), offline (both).
