//! What is asked for again: read back from what is kept, or declared again as what it is; and an epoch that ends early.

use super::*;

