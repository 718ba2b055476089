//! YAML with positions, for messages that name a line and a column and never quote a value.
//!
//! [`parse()`] reads one document into a tree of [`Node`]s, with the scalars of YAML 1.1 that Kubernetes and Python read.
//! Its errors are sentences of this program: a parser's own messages quote the text that they stumble over.

mod error;
mod limits;
mod masked;
mod node;
mod parse;

pub(crate) use self::limits::YamlLimits;
pub(crate) use self::masked::masked_line;
pub(crate) use self::node::{Entry, Node, NodeValue, Position};
pub(crate) use self::parse::parse;
