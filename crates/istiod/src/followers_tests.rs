//! Who gets which view when, over a translation that only counts.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mesh::{Event, Mesh, Object};
use xds::resource::{Resource, ResourceSet};

use super::*;

/// Translates each class to one resource: how many services there are. Class 0 does not care, [`SLOW`] takes as long as
/// it is told to, [`BROKEN`] cannot be translated.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    services: AtomicUsize,
    /// How often each class is open.
    users: Mutex<BTreeMap<u8, i32>>,
    /// Classes in the order in which their sets were made.
    made: Mutex<Vec<u8>>,
    /// Proxies that are in another class from the next change on.
    moves: Mutex<BTreeMap<u8, u8>>,
    /// Held while a slow class must wait.
    pause: Mutex<()>,
    /// How many more updates panic.
    pub(crate) mistakes: AtomicUsize,
}

/// Long enough for a thread that is woken.
const FOREVER: Duration = Duration::from_secs(1000);
const SLOW: u8 = 100;
const BROKEN: u8 = 101;

impl Counting {
    fn of(&self, class: u8) -> Sets {
        let services = self.services.load(Relaxed);
        let value = if class == 0 {
            String::new()
        } else {
            services.to_string()
        };
        let resource = Resource::encode("count", &xds::google::protobuf::StringValue { value });
        BTreeMap::from([(Arc::from("type"), Arc::new(ResourceSet::new([Arc::new(resource)])))])
    }

    fn make_a_mistake(&self) {
        let left = self.mistakes.load(Relaxed);
        self.mistakes.store(left.saturating_sub(1), Relaxed);
        assert_eq!(left, 0, "as the test wants it");
    }

    fn use_class(&self, class: u8, more: i32) {
        let mut users = lock(&self.users);
        *users.entry(class).or_default() += more;
        users.retain(|_, users| *users != 0);
    }
}

impl Translate for Counting {
    type Proxy = u8;
    type Class = u8;

    fn open(&self, proxy: &u8) -> u8 {
        let class = lock(&self.moves).get(proxy).copied().unwrap_or(*proxy);
        self.use_class(class, 1);
        class
    }

    fn hold(&self, class: u8) {
        self.use_class(class, 1);
    }

    fn close(&self, class: u8) {
        self.use_class(class, -1);
    }

    fn reclassifies(&self, _: &Update) -> Option<impl Fn(&u8) -> bool> {
        let moves = lock(&self.moves).clone();
        (!moves.is_empty()).then_some(move |proxy: &u8| moves.contains_key(proxy))
    }

    fn start_again(&self, snapshot: &Arc<Snapshot>) {
        self.make_a_mistake();
        self.services.store(snapshot.services().len(), Relaxed);
    }

    fn update(&self, update: &Update) -> BTreeMap<u8, Sets> {
        self.make_a_mistake();
        self.services.store(update.snapshot.services().len(), Relaxed);
        let made: BTreeSet<u8> = lock(&self.made).iter().copied().collect();
        made.into_iter().map(|class| (class, self.of(class))).collect()
    }

    fn sets(&self, class: u8) -> Sets {
        let sets = self.of(class);
        lock(&self.made).push(class);
        if class == SLOW {
            drop(lock(&self.pause));
        }
        assert_ne!(class, BROKEN, "as the test wants it");
        sets
    }
}

/// Does all that waits.
fn work_off<T: Translate>(followers: &Followers<T>) {
    loop {
        let queue = lock(&followers.queue);
        if queue.newcomers.is_empty() && queue.classes.is_empty() {
            return;
        }
        drop(queue);
        followers.work(FOREVER);
    }
}

fn followers() -> Followers<Counting> {
    Followers::new(Counting::default())
}

/// The number of services that a view tells; `-` without a view.
pub(crate) fn told(view: &watch::Receiver<Option<Arc<View>>>) -> String {
    let view = view.borrow();
    let Some(view) = &*view else { return "-".to_owned() };
    let any = view.get("type").get("count").unwrap().body.to_bytes();
    String::from_utf8_lossy(&any)
        .chars()
        .filter(char::is_ascii_digit)
        .collect()
}

/// A mesh to which services are added.
#[derive(Default)]
struct Services(Mesh);

impl Services {
    fn add(&mut self, name: &str) -> Update {
        let service = serde_json::json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "a" },
            "spec": { "clusterIP": "10.0.0.1", "ports": [{ "name": "http", "port": 80 }] },
        });
        self.0
            .apply([Event::Apply(Object::from_json(service).unwrap().unwrap())])
    }
}

/// Waits for something that another thread is about to do.
pub(crate) fn until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "it never happened");
        std::thread::yield_now();
    }
}

#[test]
fn a_class_is_made_once_for_all_who_are_in_it() {
    let followers = followers();
    let streams: Vec<_> = [1, 1, 2, 1].map(|class| followers.add(class)).into();
    assert_eq!(told(&streams[0]), "-", "nobody who comes makes it");
    work_off(&followers);
    let late = followers.add(2);
    work_off(&followers);
    assert!(streams.iter().chain([&late]).all(|view| told(view) == "0"));
    assert_eq!(*lock(&followers.translate.made), [1, 2]);
    assert_eq!(followers.classes(), 2);
}

#[test]
fn only_classes_that_changed_are_woken() {
    let followers = followers();
    let (mut counts, mut ignores) = (followers.add(1), followers.add(0));
    work_off(&followers);
    counts.mark_unchanged();
    ignores.mark_unchanged();
    followers.update(&Services::default().add("x"), SystemTime::now());
    assert_eq!(counts.has_changed().ok(), Some(true));
    assert_eq!(ignores.has_changed().ok(), Some(false));
    assert_eq!(told(&counts), "1");
}

#[test]
fn who_comes_into_another_class_is_told_its_view() {
    let followers = followers();
    let mut services = Services::default();
    let (mut stays, moved) = (followers.add(1), [2, 2].map(|class| followers.add(class)));
    let ended = followers.add(2);
    work_off(&followers);
    drop(ended);
    stays.mark_unchanged();
    // Nobody is in class 0 yet, so its view is made first.
    *lock(&followers.translate.moves) = [(2, 0)].into();
    followers.update(&services.add("x"), SystemTime::now());
    assert!(
        moved.iter().all(|view| told(view) == "0"),
        "what it had serves it until then"
    );
    work_off(&followers);
    assert!(moved.iter().all(|view| told(view).is_empty()));
    assert_eq!(*lock(&followers.translate.users), [(0, 2), (1, 1)].into());
    // Class 1 has one.
    *lock(&followers.translate.moves) = [(2, 1)].into();
    followers.update(&services.add("y"), SystemTime::now());
    assert!(moved.iter().chain([&stays]).all(|view| told(view) == "2"));
    assert_eq!(*lock(&followers.translate.users), [(1, 3)].into());
    assert_eq!((followers.classes(), lock(&followers.state).streams), (1, 3));
}

#[test]
fn classes_without_streams_are_forgotten() {
    let followers = followers();
    drop(followers.add(1));
    work_off(&followers);
    followers.update(&Services::default().add("x"), SystemTime::now());
    assert_eq!(followers.classes(), 0);
    assert!(lock(&followers.translate.users).is_empty());
}

#[test]
fn what_streams_used_that_left_does_not_wait_for_a_change() {
    let followers = followers();
    let stays = followers.add(1);
    for class in (2..90).cycle().take(1000) {
        drop(followers.add(class));
        // It may leave before it was looked at, and after.
        if class % 2 == 0 {
            let view = followers.add(class);
            work_off(&followers);
            assert_eq!(told(&view), "0");
        }
    }
    let kept = lock(&followers.state).streams;
    assert!(kept <= FEW + 1, "{kept} of 1");
    work_off(&followers);
    followers.work(Duration::ZERO);
    assert_eq!(lock(&followers.state).streams, 1);
    assert_eq!(followers.classes(), 1);
    assert_eq!(lock(&followers.translate.users).keys().collect::<Vec<_>>(), [&1]);
    assert_eq!(told(&stays), "0");
}

#[test]
fn starting_again_sends_what_differs_and_ends_only_what_cannot_be_made() {
    let followers = followers();
    let (mut counts, mut ignores) = (followers.add(1), followers.add(0));
    work_off(&followers);
    let newcomer = followers.add(2);
    counts.mark_unchanged();
    ignores.mark_unchanged();
    let update = Services::default().add("x");
    followers.start_again(&update.snapshot, SystemTime::now());
    work_off(&followers);
    assert_eq!((told(&counts), told(&newcomer)), ("1".to_owned(), "1".to_owned()));
    assert_eq!(ignores.has_changed().ok(), Some(false));
    let users = lock(&followers.translate.users).clone();
    assert_eq!(users, [(0, 1), (1, 1), (2, 1)].into());
}

#[test]
fn a_class_that_takes_long_holds_up_nobody_elses_push() {
    let followers = followers();
    let mut services = Services::default();
    let quick = followers.add(1);
    work_off(&followers);
    std::thread::scope(|scope| {
        let pause = lock(&followers.translate.pause);
        scope.spawn(|| while followers.work(FOREVER) {});
        let slow = [SLOW, SLOW].map(|class| followers.add(class));
        until(|| lock(&followers.translate.made).contains(&SLOW));
        // Both are told while the slow class is being made: this thread does not get on otherwise.
        followers.update(&services.add("x"), SystemTime::now());
        assert_eq!(told(&quick), "1");
        followers.update(&services.add("y"), SystemTime::now());
        assert_eq!(told(&quick), "2");
        assert_eq!(told(&slow[0]), "-");
        drop(pause);
        // It was made of a mesh that has gone on, so it is made again, for both streams together.
        until(|| slow.iter().all(|view| told(view) == "2"));
        assert_eq!(*lock(&followers.translate.made), [1, SLOW, SLOW]);
        followers.close();
    });
}

#[test]
fn a_class_whose_streams_leave_while_it_is_made_is_forgotten() {
    let followers = followers();
    std::thread::scope(|scope| {
        let pause = lock(&followers.translate.pause);
        scope.spawn(|| while followers.work(FOREVER) {});
        let slow = followers.add(SLOW);
        until(|| !lock(&followers.translate.made).is_empty());
        drop(slow);
        followers.update(&Services::default().add("x"), SystemTime::now());
        assert_eq!(
            lock(&followers.translate.users).get(&SLOW),
            Some(&1),
            "not while it is made"
        );
        drop(pause);
        until(|| lock(&followers.translate.users).is_empty());
        followers.close();
    });
    assert_eq!(followers.classes(), 0);
}

#[test]
fn a_class_that_cannot_be_made_ends_its_streams_only() {
    let followers = followers();
    let (mut good, mut bad) = (followers.add(1), followers.add(BROKEN));
    work_off(&followers);
    good.mark_unchanged();
    bad.mark_unchanged();
    assert!(bad.has_changed().is_err(), "it has ended");
    assert_eq!(told(&good), "0");
    followers.update(&Services::default().add("x"), SystemTime::now());
    assert_eq!(told(&good), "1");
    assert_eq!(lock(&followers.translate.users).keys().collect::<Vec<_>>(), [&1]);
}

#[test]
fn the_end_ends_all_streams_and_those_that_come_later() {
    let followers = followers();
    let served = followers.add(1);
    work_off(&followers);
    let waiting = followers.add(2);
    followers.close();
    assert!(!followers.work(FOREVER));
    for view in [served, waiting, followers.add(1)] {
        assert!(view.has_changed().is_err());
    }
}
