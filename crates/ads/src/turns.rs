//! Large responses leave in turns.
//!
//! When thousands of proxies open at once, all that they are owed fits the buffers between them and the control plane.
//! Sent as fast as it can be, it waits there, gigabytes of it, and every copy is one from and to memory that no cache
//! holds. So only so many bytes are on their way at one time: what leaves is what proxies read meanwhile, and those that
//! have their turn are done long before the last would have begun.
//!
//! A response is on its way until its proxy answers. A proxy may take its time, and others do not wait for it: after
//! [`LONGEST`] it counts no more. With nobody answering at all the default number of bytes still makes 5 Gbit/s, so
//! that who never answers cannot hold others up. What changes while a response waits is not in it, and follows it.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::room::Room;
use crate::stream::Response;

/// A response that takes less than this part of the room needs no turn.
const SMALL: usize = 512;
/// How long a response that is not answered counts as being on its way.
const LONGEST: Duration = Duration::from_millis(25);

/// The responses of one stream that need a turn.
#[derive(Default)]
pub(crate) struct Turns {
    waiting: Option<Box<Waiting>>,
    leaving: Vec<Leaving>,
}

struct Waiting {
    response: Response,
    turn: oneshot::Receiver<Leaving>,
}

/// A response on its way. Dropping this says that it is not any more.
struct Leaving {
    type_url: Arc<str>,
    on_its_way: oneshot::Sender<()>,
}

impl Turns {
    /// Gives a response back that may leave at once; another waits, and no other may be made before it has left.
    pub(crate) fn enter(&mut self, response: Response, room: &Room) -> Option<Response> {
        if response.bytes <= room.all() / SMALL {
            return Some(response);
        }
        let taking = room.take(response.bytes);
        let type_url = response.type_url.clone();
        let (come, turn) = oneshot::channel();
        // A task of its own: whoever may not write is not asked to do anything, and must not keep a turn for that long.
        tokio::spawn(async move {
            let mut come = come;
            let taken = tokio::select! {
                biased;
                taken = taking => taken,
                () = come.closed() => return,
            };
            let (on_its_way, over) = oneshot::channel();
            if come.send(Leaving { type_url, on_its_way }).is_ok() {
                let _ = timeout(LONGEST, over).await;
            }
            drop(taken);
        });
        self.waiting = Some(Box::new(Waiting { response, turn }));
        None
    }

    /// The response whose turn has come; ready with none if none waits.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Response>> {
        let Some(waiting) = &mut self.waiting else {
            return Poll::Ready(None);
        };
        let turn = ready!(waiting.turn.poll_unpin(cx));
        self.leaving.retain(|leaving| !leaving.on_its_way.is_closed());
        self.leaving.extend(turn);
        Poll::Ready(self.waiting.take().map(|waiting| waiting.response))
    }

    /// The proxy answered a response of this type.
    pub(crate) fn answered(&mut self, type_url: &str) {
        self.leaving.retain(|leaving| *leaving.type_url != *type_url);
        if self.leaving.is_empty() {
            self.leaving = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;
    use crate::wire::Frames;

    /// Room for two of these.
    const LARGE: usize = 5000;

    fn response(type_url: &str, bytes: usize) -> Response {
        Response {
            type_url: type_url.into(),
            resources: 1,
            bytes,
            pushed_for: None,
            abandons: 0,
            frames: Frames::default(),
        }
    }

    /// A stream's turns, with a large response that waits for its own.
    fn entered(room: &Room) -> Turns {
        let mut turns = Turns::default();
        assert!(turns.enter(response("t", LARGE), room).is_none());
        turns
    }

    /// Whether the turn comes within that time.
    async fn comes(turns: &mut Turns, within: Duration) -> bool {
        timeout(within, poll_fn(|cx| turns.poll(cx)))
            .await
            .is_ok_and(|response| response.unwrap().bytes == LARGE)
    }

    const AT_ONCE: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn large_responses_wait_for_answers_to_others_and_small_ones_do_not() {
        let room = Room::new(2 * LARGE);
        let (mut a, mut b, mut c) = (entered(&room), entered(&room), entered(&room));
        assert!(comes(&mut a, AT_ONCE).await && comes(&mut b, AT_ONCE).await);
        assert!(!comes(&mut c, AT_ONCE).await);
        assert!(Turns::default().enter(response("t", 19), &room).is_some());
        b.answered("another");
        assert!(!comes(&mut c, AT_ONCE).await);
        b.answered("t");
        assert!(comes(&mut c, AT_ONCE).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_or_leaves_holds_nobody_up() {
        let room = Room::new(2 * LARGE);
        let (mut mute, mut gone, mut waiting) = (entered(&room), entered(&room), entered(&room));
        assert!(comes(&mut mute, AT_ONCE).await && comes(&mut gone, AT_ONCE).await);
        drop(gone);
        assert!(comes(&mut waiting, AT_ONCE).await);
        let mut next = entered(&room);
        assert!(!comes(&mut next, LONGEST / 2).await);
        assert!(
            comes(&mut next, LONGEST).await,
            "although nobody looked at the one that is mute"
        );
        drop(mute);
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_not_write_loses_the_turn() {
        let room = Room::new(2 * LARGE);
        let stuck = [entered(&room), entered(&room)];
        let mut next = entered(&room);
        assert!(!comes(&mut next, LONGEST / 2).await);
        assert!(comes(&mut next, LONGEST).await);
        drop(stuck);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_larger_than_all_room_goes_alone() {
        let room = Room::new(LARGE / 2);
        let (mut one, mut other) = (entered(&room), entered(&room));
        assert!(comes(&mut one, AT_ONCE).await && !comes(&mut other, AT_ONCE).await);
        one.answered("t");
        assert!(comes(&mut other, AT_ONCE).await);
    }
}
