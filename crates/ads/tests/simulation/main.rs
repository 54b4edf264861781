//! Control planes and proxies on a bad network, under simulated time.
//!
//! The servers are the real ones, behind real HTTP/2; only the network and the clock are made up. The clock is
//! tokio's paused one, so that hours of retries and deadlines take moments. The network is our own hundred lines and
//! not turmoil's: turmoil drops the bytes of a TCP connection when it drops a packet, which no kernel does, and has no
//! small buffers to fill up, which is what slow clients are about.
//!
//! Each seed is a world that changes while connections are slow, cut or lost, replicas restart, proxies reject what
//! they cannot read, and some clients mean harm. On the way every client checks that it is not told what it knows,
//! what it rejected or what is not for it, and that nothing is taken away which it uses. At rest it must have what is
//! computed from nothing. A seed is the same run each time: `SIMULATION_SEEDS=1000` tries more of them,
//! `SIMULATION_SEED=7` one again.
#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod hostile;
mod net;
mod random;
mod replica;
mod wire;
mod world;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ads::{Limits, Protocol};
use fake_envoy::Ask;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use client::{Client, Habit, Mood};
use net::{Net, Weather};
use random::Random;
use replica::Replica;
use world::{TYPES, World};

const CLIENTS: usize = 6;
const HOSTILE: usize = 2;
const REPLICAS: usize = 2;

fn limits(patience: Duration) -> Limits {
    Limits {
        patience,
        names: 500,
        request_bytes: 64 << 10,
        ..Limits::default()
    }
}

/// Every response waits for its turn, and there is room for one or a few.
fn in_turns(patience: Duration) -> Limits {
    Limits {
        sending_bytes: 2 << 10,
        ..limits(patience)
    }
}

/// Runs a simulation; everything happens on this thread.
fn simulate<F: Future>(simulation: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(simulation)
}

async fn join(task: JoinHandle<Client>) -> Client {
    task.await
        .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// What a client must have at rest, and nothing else.
fn check_at_rest(client: &Client, world: &World) {
    let wanted = client.wanted();
    for url in TYPES {
        let mut expected = world.expected(client.class, url);
        if let Some(wanted) = wanted.get(url) {
            expected.retain(|name, _| wanted.contains(name));
        }
        pretty_eq(&client.has(url), &expected, || format!("{url}\n{}", client.story()));
    }
    assert!(
        client.warming().is_empty(),
        "{:?} wait for endpoints\n{}",
        client.warming(),
        client.story()
    );
}

fn pretty_eq<T: PartialEq + std::fmt::Debug>(held: &T, expected: &T, shown: impl FnOnce() -> String) {
    assert!(
        held == expected,
        "has {held:?}\n, is owed {expected:?}\n, of {}",
        shown()
    );
}

/// What each client was told.
async fn storm(seed: u64, limits: fn(Duration) -> Limits) -> Vec<Vec<String>> {
    let mut random = Random::new(seed);
    let patient = random.one_in(2);
    let limits = || limits(Duration::from_secs(if patient { 200 } else { 5 }));
    let net = Net::new(random.fork(), REPLICAS);
    let mut world = World::new(&mut random, 100);
    let mut replicas: Vec<Replica> = (0..REPLICAS)
        .map(|number| Replica::start(number, &net, &world, limits()))
        .collect();
    let mood = watch::Sender::new(Mood::Wild);
    let clients: Vec<JoinHandle<Client>> = (0..CLIENTS)
        .map(|number| {
            let protocol = if number < CLIENTS / 2 {
                Protocol::Delta
            } else {
                Protocol::Sotw
            };
            let habit = Habit {
                slowness: if random.one_in(3) { 6000 } else { 0 },
                flaps: if random.one_in(3) { 40 } else { 0 },
                takes_parts: random.one_in(2),
                patient,
            };
            let client = Client::new(number, protocol, habit, REPLICAS, net.clone(), random.fork());
            tokio::spawn(client.live(mood.subscribe()))
        })
        .collect();
    let hostile: Vec<JoinHandle<()>> = (CLIENTS..CLIENTS + HOSTILE)
        .map(|number| tokio::spawn(hostile::live(number, net.clone(), random.fork(), limits())))
        .collect();

    for _ in 0..50 {
        match random.below(20) {
            0 => {
                let number = usize::try_from(random.below(2)).unwrap();
                replicas[number].kill();
                sleep(Duration::from_millis(u64::from(random.below(2000)))).await;
                replicas[number] = Replica::start(number, &net, &world, limits());
            }
            1 => net.cut_client(usize::try_from(random.below(6)).unwrap()),
            2..5 => net.set_weather(Weather {
                latency: [1, 30, 400][usize::try_from(random.below(3)).unwrap()],
                loss: [0, 0, 20, 5][usize::try_from(random.below(4)).unwrap()],
                parted: (0..CLIENTS).filter(|_| random.one_in(6)).collect(),
            }),
            _ => {}
        }
        for _ in 0..1 + random.below(3) {
            world.change(&mut random);
        }
        // One replica hears of it before the other.
        replicas.rotate_left(usize::from(random.one_in(2)));
        for replica in &replicas {
            replica.learn(&world);
            sleep(Duration::from_millis(u64::from(random.below(200)))).await;
        }
        replicas.sort_by_key(Replica::number);
        sleep(Duration::from_millis(u64::from(random.below(4000)))).await;
    }

    for enemy in hostile {
        enemy.abort();
        assert!(
            !enemy.await.is_err_and(|error| error.is_panic()),
            "a hostile client was not told"
        );
    }
    (CLIENTS..CLIENTS + HOSTILE).for_each(|number| net.cut_client(number));
    net.set_weather(Weather::default());
    mood.send_replace(Mood::Calm);
    world.cure();
    replicas.iter().for_each(|replica| replica.learn(&world));
    sleep(Duration::from_secs(600)).await;
    let streams: usize = replicas.iter().map(|replica| replica.registry.len()).sum();
    mood.send_replace(Mood::Done);
    let mut told = Vec::new();
    for client in clients {
        let client = join(client).await;
        check_at_rest(&client, &world);
        let quiet = client.last_received.unwrap().elapsed();
        assert!(
            quiet > Duration::from_secs(300),
            "it never rests: {quiet:?}\n{}",
            client.story()
        );
        told.push(client.trace);
    }
    assert_eq!(streams, CLIENTS, "streams of clients that are gone are kept");
    told
}

#[test]
fn whatever_the_network_does_every_proxy_gets_exactly_its_configuration() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(12),
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(|| simulate(storm(seed, limits)));
        match result {
            Ok(told) => {
                let told: usize = told.iter().map(Vec::len).sum();
                assert!(told > 100, "seed {seed} tells nothing: {told} responses");
            }
            Err(panic) => {
                eprintln!("with SIMULATION_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..4 {
        let run = || simulate(storm(seed, limits));
        let (one, other) = (run(), run());
        for (number, (one, other)) in one.iter().zip(&other).enumerate() {
            let at = one.iter().zip(other).position(|(one, other)| one != other);
            let shown = at.map(|at| (at, &one[at], &other[at]));
            assert_eq!(shown, None, "client {number} with seed {seed}");
            assert_eq!(one.len(), other.len(), "client {number} with seed {seed}");
        }
    }
}

#[test]
fn who_waits_for_a_turn_gets_it() {
    // Who of those that a change wakes comes first is chance, so that a seed is another run each time.
    for seed in 100..104 {
        simulate(storm(seed, in_turns));
    }
}

/// A proxy that reads one response in half a minute, beside those that read at once.
async fn slow_beside_quick(slow: Protocol, quick: Protocol) {
    let mut random = Random::new(1);
    let net = Net::new(random.fork(), 1);
    let mut world = World::new(&mut random, 6 << 10);
    let replica = Replica::start(0, &net, &world, in_turns(Duration::from_secs(5)));
    let mood = watch::Sender::new(Mood::Wild);
    let mut start = |number: usize, protocol: Protocol, slowness: u32| {
        let habit = Habit {
            slowness,
            ..Habit::default()
        };
        // All of the class that sees everything.
        let client = Client::new(2 * number, protocol, habit, 1, net.clone(), random.fork());
        tokio::spawn(client.live(mood.subscribe()))
    };
    let tortoise = start(0, slow, 60_000);
    let hares: Vec<JoinHandle<Client>> = (1..3).map(|number| start(number, quick, 0)).collect();
    sleep(Duration::from_secs(5)).await;
    let mut random = Random::new(2);
    for _ in 0..50 {
        world.change(&mut random);
        world.cure();
        replica.learn(&world);
        sleep(Duration::from_secs(1)).await;
        for connection in replica.registry.connections() {
            let is_slow = connection.info.proxy_id.starts_with("proxy-0~");
            // What was made and not taken in yet is bounded for the slow, and nothing for the quick.
            let unanswered = connection.with_stream(|stream| {
                stream
                    .status()
                    .iter()
                    .filter(|status| status.sync == ads::stream::Sync::Stale)
                    .count()
            });
            assert!(is_slow || unanswered == 0, "{} is held up", connection.info.proxy_id);
        }
        check_memory(&world);
    }
    let sent = |counters: &ads::counters::Counters| counters.pushes.iter().map(|n| n.load(Relaxed)).sum::<u64>();
    let made = sent(&replica.counters);
    let started = Instant::now();
    mood.send_replace(Mood::Calm);
    sleep(Duration::from_secs(300)).await;
    mood.send_replace(Mood::Done);
    let mut of_quick = 0;
    for hare in hares {
        let hare = join(hare).await;
        check_at_rest(&hare, &world);
        assert!(hare.last_received.unwrap() < started, "nothing was left to say");
        of_quick += hare.received;
    }
    let tortoise = join(tortoise).await;
    check_at_rest(&tortoise, &world);
    let of_slow = usize::try_from(made).unwrap() - of_quick;
    assert!(of_slow < 20, "{of_slow} responses were made for a proxy that read two");
    assert!(
        tortoise.received < 40,
        "{} responses: it did not go straight to the newest",
        tortoise.received
    );
}

#[test]
fn a_slow_stream_holds_nobody_up_and_queues_nothing() {
    for slow in [Protocol::Delta, Protocol::Sotw] {
        for quick in [Protocol::Delta, Protocol::Sotw] {
            simulate(slow_beside_quick(slow, quick));
        }
    }
}

/// Whoever is slow or silent, only so many views are alive: the newest of each class, and what one stream may keep.
fn check_memory(world: &World) {
    let views = 4 + Limits::default().unacknowledged;
    let (alive, bound) = (world.alive_bytes(), views * world.view_bytes());
    assert!(
        alive <= bound,
        "{alive} bytes of resources are alive, more than {bound}"
    );
}

/// Proxies that read all they are sent and never answer, beside one that does.
async fn mute_beside_quick(mute: Protocol) {
    let mut random = Random::new(3);
    let net = Net::new(random.fork(), 1);
    let mut world = World::new(&mut random, 1 << 10);
    let replica = Replica::start(0, &net, &world, in_turns(Duration::from_secs(5)));
    let asks = TYPES.map(|url| Ask {
        url,
        names: if ads::kinds::is_wildcard(url) {
            Vec::new()
        } else {
            world.expected(0, url).into_keys().collect()
        },
        ..Ask::default()
    });
    let never = tokio::spawn(hostile::reads_and_never_answers(1, net.clone(), mute, asks.into()));
    let mood = watch::Sender::new(Mood::Calm);
    let quick = Client::new(2, Protocol::Delta, Habit::default(), 1, net.clone(), random.fork());
    let quick = tokio::spawn(quick.live(mood.subscribe()));
    sleep(Duration::from_secs(5)).await;
    for _ in 0..80 {
        world.change(&mut random);
        world.cure();
        replica.learn(&world);
        // Longer than anybody waits for an answer.
        sleep(Duration::from_secs(6)).await;
        check_memory(&world);
    }
    assert_eq!(replica.registry.len(), 2);
    assert!(!never.is_finished(), "it was not served");
    sleep(Duration::from_secs(60)).await;
    mood.send_replace(Mood::Done);
    check_at_rest(&join(quick).await, &world);
}

#[test]
fn who_reads_and_never_answers_takes_a_bounded_memory() {
    for mute in [Protocol::Delta, Protocol::Sotw] {
        simulate(mute_beside_quick(mute));
    }
}

#[test]
fn what_is_too_much_is_refused_for_its_reason() {
    simulate(async {
        let mut random = Random::new(4);
        let net = Net::new(random.fork(), 1);
        let world = World::new(&mut random, 100);
        let limits = limits(Duration::from_secs(5));
        let _replica = Replica::start(0, &net, &world, limits.clone());
        for (number, protocol) in [Protocol::Delta, Protocol::Sotw].into_iter().enumerate() {
            hostile::is_refused(number, &net, protocol, &limits).await;
        }
    });
}
