//! The one integration binary: the house from outside.

mod house;
