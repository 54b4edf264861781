//! What a change costs that concerns few, by number of streams: 10,000 of them in as many classes as a mesh of that size
//! has workloads. Sending is not in it.

#![allow(dead_code)]

#[path = "../src/followers.rs"]
mod followers;
#[path = "../src/sets.rs"]
mod sets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use ads::View;
use divan::Bencher;
use followers::Followers;
use mesh::{Mesh, Snapshot, Update};
use sets::{Sets, Translate};
use tokio::sync::watch;
use xds::google::protobuf::StringValue;
use xds::resource::{Resource, ResourceSet};

const CLASSES: u32 = 1000;
/// Changes concern one in so many classes.
const CONCERNED: u32 = 500;

fn main() {
    divan::main();
}

/// Each class has one resource that says how often it changed.
#[derive(Debug, Default)]
struct Numbered(AtomicU32);

fn version(version: u32) -> Sets {
    let value = version.to_string();
    let resource = Arc::new(Resource::encode("x", &StringValue { value }));
    BTreeMap::from([(Arc::from("type"), Arc::new(ResourceSet::new([resource])))])
}

impl Translate for Numbered {
    type Proxy = u32;
    type Class = u32;

    fn open(&self, proxy: &u32) -> u32 {
        proxy % CLASSES
    }

    fn hold(&self, _: u32) {}

    fn close(&self, _: u32) {}

    fn reclassifies(&self, _: &Update) -> Option<impl Fn(&u32) -> bool> {
        None::<fn(&u32) -> bool>
    }

    fn update(&self, _: &Update) -> BTreeMap<u32, Sets> {
        let number = self.0.fetch_add(1, Relaxed) + 1;
        let concerned = (0..CLASSES).step_by(CONCERNED as usize);
        concerned.map(|class| (class, version(number))).collect()
    }

    fn start_again(&self, _: &Arc<Snapshot>) {}

    fn sets(&self, _: u32) -> Sets {
        version(0)
    }
}

type Streams = Vec<watch::Receiver<Option<Arc<View>>>>;

#[divan::bench(args = [1000, 10_000])]
fn change_that_concerns_two_classes(bencher: Bencher<'_, '_>, streams: u32) {
    let followers = Followers::new(Numbered::default());
    let held: Streams = (0..streams).map(|proxy| followers.add(proxy)).collect();
    while held.iter().any(|view| view.borrow().is_none()) {
        followers.work(Duration::ZERO);
    }
    let update = Mesh::default().apply([]);
    bencher.bench_local(|| followers.update(&update, SystemTime::UNIX_EPOCH));
}
