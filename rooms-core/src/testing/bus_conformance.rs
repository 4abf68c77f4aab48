//! The contract of the [`Bus`], clause by clause, for any bus.
//!
//! [`bus_conformance!`](crate::bus_conformance) makes a test of each clause; this is how a bus of one's own is proved:
//!
//! ```
//! use rooms_core::{LocalBus, bus::Topic, testing::bus_conformance::{Backplane, Cut}};
//!
//! struct Local(Vec<LocalBus>);
//!
//! impl Backplane for Local {
//!     type Bus = LocalBus;
//!
//!     fn peers(&self) -> &[LocalBus] {
//!         &self.0
//!     }
//!
//!     // A `LocalBus` refuses nothing, and is never down.
//!     fn stubborn(&self) -> Option<Topic> {
//!         None
//!     }
//!
//!     async fn cut(&mut self) -> Cut {
//!         Cut::Impossible
//!     }
//!
//!     async fn mend(&mut self) {}
//!
//!     async fn forget(&mut self) -> Cut {
//!         self.0[0].forget_histories();
//!         Cut::Done
//!     }
//! }
//!
//! async fn local() -> Local {
//!     let first = LocalBus::new();
//!     Local(vec![first.peer(), first.peer(), first])
//! }
//!
//! rooms_core::bus_conformance!(local().await);
//! # fn main() {}
//! ```

mod connected;
mod history;
mod listener;
mod outage;
mod states;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use self::listener::Listener;
pub use self::{
    connected::{
        at_most_once, closed_is_silent, confirmed, dropping_is_safe, no_topic_holds_up_another, nobody_waits,
        one_order, the_last_call_counts,
    },
    history::{
        a_key_counts_once, an_outage_leaves_no_holes, another_log_is_another_epoch, appending_publishes,
        logs_are_trimmed, reads_have_no_holes,
    },
    outage::{down_is_not_silence, loss_is_said, unknown_is_not_down},
    states::{a_lost_state_is_another_epoch, one_writer_wins, setting_publishes},
};
use crate::{
    bus::{Bus, Topic},
    node::NodeId,
    room_key::RoomKey,
};

/// Peers over one backplane, and a way to take it away from them.
pub trait Backplane: Send + Sync {
    /// The bus to prove.
    type Bus: Bus;

    /// Three connected buses that hear each other, to which no receiver is attached yet.
    fn peers(&self) -> &[Self::Bus];

    /// A topic that the backplane refuses to subscribe or never answers for, while it is there; `None` where there is no
    /// such thing.
    fn stubborn(&self) -> Option<Topic>;

    /// Takes the backplane away from all of them, until [`mend`](Self::mend): a server is killed, a cable cut.
    fn cut(&mut self) -> impl Future<Output = Cut> + Send;

    /// Gives it back.
    fn mend(&mut self) -> impl Future<Output = ()> + Send;

    /// Makes it lose all histories and states while it goes on, as a server whose data is deleted does. [`Cut::Impossible`] where it
    /// keeps none, or can't lose them.
    fn forget(&mut self) -> impl Future<Output = Cut> + Send;
}

/// Whether a backplane can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// It is away.
    Done,
    /// There is nothing that could be: the clauses about it hold without a test.
    Impossible,
}

/// Makes a test of each clause of the contract, in the place where it is called.
///
/// The argument is an expression, which may `.await`, for a fresh [`Backplane`]; it is evaluated once for each test. The
/// tests need tokio with the features `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! bus_conformance {
    ($backplane:expr) => {
        $crate::bus_conformance! { @tests ($backplane)
            clause_1_every_node_hears_every_message_in_one_order => one_order,
            clause_2_a_publication_arrives_once => at_most_once,
            clause_3_a_subscription_holds_from_its_answer_on_and_ends => confirmed,
            clause_3_the_last_call_for_a_topic_counts => the_last_call_counts,
            clause_3_no_topic_holds_up_another => no_topic_holds_up_another,
            clause_4_a_bus_that_is_down_says_so_and_comes_back_by_itself => down_is_not_silence,
            clause_5_what_is_unknown_is_not_tried_again_and_what_is_down_did_not_happen => unknown_is_not_down,
            clause_6_a_loss_is_said => loss_is_said,
            clause_7_nobody_waits_for_a_listener => nobody_waits,
            clause_8_a_dropped_publication_spoils_nothing => dropping_is_safe,
            clause_9_appending_publishes_in_the_order_of_the_offsets => appending_publishes,
            clause_10_a_read_has_no_holes => reads_have_no_holes,
            clause_11_a_log_is_trimmed_by_number_and_bytes_and_age => logs_are_trimmed,
            clause_12_another_log_is_another_epoch => another_log_is_another_epoch,
            clause_13_a_key_counts_once => a_key_counts_once,
            clause_14_setting_a_state_publishes_in_the_order_of_the_revisions => setting_publishes,
            clause_15_and_16_of_two_writers_one_wins_and_a_read_gives_the_newest => one_writer_wins,
            clause_17_a_lost_state_is_another_epoch => a_lost_state_is_another_epoch,
            and_an_outage_leaves_no_holes_in_a_history => an_outage_leaves_no_holes,
            and_after_the_close_nothing_is_heard => closed_is_silent,
        }
    };
    (@tests ($backplane:expr) $($name:ident => $clause:ident,)*) => {
        $(
            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let mut backplane = $backplane;
                $crate::testing::bus_conformance::$clause(&mut backplane).await;
            }
        )*
    };
}

/// Long beyond what any step takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A room that no other test has, on a backplane that several tests may share.
fn fresh_room() -> Topic {
    Topic::Room(RoomKey::new("conformance", NodeId::random()).expect("a node is an id"))
}

async fn publish(bus: &impl Bus, topic: &Topic, text: &str) {
    let published = timeout(PATIENCE, bus.publish(topic, Bytes::from(text.to_owned()))).await;
    published.expect("an answer in time").unwrap_or_else(|error| panic!("{text} was not published: {error:?}"));
}

/// Three peers, each subscribed to the room and listening.
async fn listening<B: Bus>(peers: &[B], topic: &Topic) -> (Vec<Listener>, [usize; 3]) {
    assert_eq!(peers.len(), 3, "the suite needs three peers");
    let listeners: Vec<Listener> = peers.iter().map(Listener::attach).collect();
    for (peer, listener) in peers.iter().zip(&listeners) {
        listener.subscribe(peer, std::slice::from_ref(topic)).await;
    }
    (listeners, [0, 1, 2])
}
