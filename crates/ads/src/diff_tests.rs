#![allow(clippy::unwrap_used)]
use std::sync::Weak;

use xds::google::protobuf::StringValue;

use super::*;
use crate::wire;

const BOUND: usize = 1 << 20;

fn large(name: &str, number: usize, size: usize) -> Arc<Resource> {
    let value = format!("{number} {}", "x".repeat(size));
    Arc::new(Resource::encode(name, &StringValue { value }))
}

/// Enough sets of resources of this size to fill what may be kept several times.
fn rounds(size: usize) -> usize {
    (4 * BOUND / size).clamp(4, 1000)
}

/// Bytes of the resources of many sets that are alive although nobody holds the sets any more.
fn kept(size: usize, remember: impl Fn(&Shared, &Arc<ResourceSet>, &Arc<ResourceSet>)) -> usize {
    let shared = Shared::new(&Limits {
        shared_bytes: BOUND,
        ..Limits::default()
    });
    let mut made: Vec<Weak<Resource>> = Vec::new();
    let mut make = |number: usize| {
        let name = format!("l{}", number % 3);
        let set = ResourceSet::new([large(&name, number, size), large("l", number, size)]);
        made.extend(set.iter().map(Arc::downgrade));
        Arc::new(set)
    };
    let mut last = make(0);
    for number in 1..rounds(size) {
        let next = make(number);
        remember(&shared, &last, &next);
        last = next;
    }
    drop(last);
    made.iter()
        .filter_map(Weak::upgrade)
        .map(|resource| resource.body.len())
        .sum()
}

/// Bytes that are alive because of remembered pieces.
fn kept_pieces(size: usize) -> usize {
    let shared = Shared::new(&Limits {
        shared_bytes: BOUND,
        ..Limits::default()
    });
    let mut made: Vec<Weak<[Body]>> = Vec::new();
    for number in 0..rounds(size) {
        let set = ResourceSet::new([large("l", number, size)]);
        let resources: Vec<Arc<Resource>> = set.iter().cloned().collect();
        let whole = shared.whole(Protocol::Delta, &set, None, || Whole {
            resources: 1,
            missing: Vec::new(),
            pieces: wire::pieces(Protocol::Delta, &resources, &shared).into(),
        });
        made.push(Arc::downgrade(&whole.pieces));
    }
    let alive = made.iter().filter_map(Weak::upgrade);
    alive.map(|pieces| pieces.iter().map(Body::len).sum::<usize>()).sum()
}

#[test]
fn what_is_remembered_keeps_no_more_than_the_bound() {
    for size in [100, 40_000, BOUND + 1] {
        let steps = kept(size, |shared, from, to| drop(shared.step(from, to)));
        let unions = kept(size, |shared, from, to| drop(shared.union(from, to)));
        assert_eq!((steps, unions), (0, 0), "of resources of {size} bytes");
        let pieces = kept_pieces(size);
        assert!(pieces <= BOUND, "{pieces} bytes of pieces of {size}");
    }
}

#[test]
fn removed_names_count_with_their_length() {
    let shared = Shared::new(&Limits {
        shared_bytes: BOUND,
        ..Limits::default()
    });
    let empty = Arc::new(ResourceSet::default());
    let mut names: Vec<Weak<str>> = Vec::new();
    for number in 0..5000 {
        let resource = large(&format!("{number:01000}"), number, 0);
        names.push(Arc::downgrade(&resource.name));
        shared.step(&ResourceSet::new([resource]), &empty);
    }
    let alive: usize = names.iter().filter_map(Weak::upgrade).map(|name| name.len()).sum();
    assert!(alive <= BOUND / 16, "{alive}");
    assert!(alive > 0, "nothing is remembered");
}
