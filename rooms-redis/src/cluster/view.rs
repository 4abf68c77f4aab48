//! What one node says of its cluster.

use std::ops::RangeInclusive;

use redis::{Value, aio::MultiplexedConnection};

use crate::{access::Address, fault::Fault};

/// The slots and who has them, and every node, replicas too.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) slots: Vec<(RangeInclusive<u16>, Address)>,
    pub(crate) nodes: Vec<Address>,
}

/// Asks a node that is at this host.
pub(super) async fn ask(connection: &mut MultiplexedConnection, host: &str) -> Result<View, Fault> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SLOTS");
    let answers = connection.send_packed_commands(&pipeline, 0, 2).await.map_err(Fault::connecting)?;
    let [info, slots] = &*answers else { return Err(Fault::OutOfStep) };
    given("CLUSTER INFO", "+cluster|info", info)?;
    given("CLUSTER SLOTS", "+cluster|slots", slots)?;
    // A node that is cut off from the others tells of slots that they have given to somebody else.
    if !is_well(info) {
        return Err(Fault::ClusterDown);
    }
    read(slots, host).ok_or(Fault::NoNode)
}

/// Whether there is an answer. There is none without the right, where the command is disabled, and on a server that is in
/// no cluster; without both answers nobody knows where the slots are.
fn given(command: &'static str, right: &'static str, answer: &Value) -> Result<(), Fault> {
    let Value::ServerError(error) = answer else { return Ok(()) };
    Err(Fault::denied("a node of the cluster", command, right, error.clone().into()))
}

/// Whether an answer to `CLUSTER INFO` is that of a node that sees most of its cluster.
fn is_well(info: &Value) -> bool {
    let text = match info {
        Value::BulkString(text) => text,
        Value::VerbatimString { text, .. } => text.as_bytes(),
        _ => return false,
    };
    text.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_end() == b"cluster_state:ok")
}

/// Reads an answer to `CLUSTER SLOTS`: for each range its ends, its master, and the replicas of that.
fn read(answer: &Value, host: &str) -> Option<View> {
    let Value::Array(ranges) = answer else { return None };
    let mut view = View::default();
    for range in ranges {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), nodes @ ..] = &**range else { return None };
        let slots = u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?;
        let nodes: Vec<Address> = nodes.iter().filter_map(|node| address(node, host)).collect();
        view.slots.push((slots, nodes.first()?.clone()));
        for node in nodes {
            if !view.nodes.contains(&node) {
                view.nodes.push(node);
            }
        }
    }
    Some(view)
}

/// A node names no host of its own where it does not know it: it is where it was asked.
fn address(node: &Value, host: &str) -> Option<Address> {
    let Value::Array(node) = node else { return None };
    let [name, Value::Int(port), ..] = &**node else { return None };
    let name = match name {
        Value::BulkString(name) => std::str::from_utf8(name).ok()?,
        Value::SimpleString(name) => name,
        _ => "",
    };
    let name = if name.is_empty() { host } else { name };
    Some((name.to_owned(), u16::try_from(*port).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())])
    }

    #[test]
    fn slots_go_to_masters_and_a_node_without_a_name_is_where_it_was_asked() {
        let named = |name: &str| Value::BulkString(name.as_bytes().to_vec());
        let range =
            |first, last, nodes: Vec<Value>| Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat());
        let answer = Value::Array(vec![
            range(0, 99, vec![node(named("a"), 1), node(named("b"), 2)]),
            range(100, 16383, vec![node(Value::Nil, 3)]),
        ]);
        let (a, b, asked) = (("a".to_owned(), 1), ("b".to_owned(), 2), ("asked".to_owned(), 3));
        let slots = vec![(0..=99, a.clone()), (100..=16383, asked.clone())];
        assert_eq!(read(&answer, "asked"), Some(View { slots, nodes: vec![a, b, asked] }));
    }

    #[test]
    fn nonsense_is_no_view() {
        let short = Value::Array(vec![Value::Array(vec![Value::Int(0)])]);
        let nobody = Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(1)])]);
        let huge = Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(70_000), node(Value::Nil, 1)])]);
        for answer in [Value::Nil, short, nobody, huge] {
            assert_eq!(read(&answer, "asked"), None, "{answer:?}");
        }
    }

    #[test]
    fn a_node_is_well_where_it_says_so() {
        let says = |text: &str| is_well(&Value::BulkString(text.as_bytes().to_vec()));
        assert!(says("cluster_state:ok\r\ncluster_slots_assigned:16384\r\n"));
        assert!(!says("cluster_state:fail\r\n") && !says("") && !is_well(&Value::Nil));
    }
}
