//! Readers of training and evaluation data; knows no model.
#![forbid(unsafe_code)]
