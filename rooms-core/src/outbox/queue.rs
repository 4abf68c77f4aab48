//! What waits for a member whose socket is full, and what happens when too much does.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU64,
};

use crate::{limits::Limits, message::Message, metrics::Overflows, room_key::RoomKey};

/// What happens to a member that does not keep up with a room, once `Limits::max_outbox_bytes` or `max_outbox_messages` wait for
/// it; set for a kind with [`Kind::overflow`](crate::Kind::overflow).
///
/// A connection that is still joining when so much waits is closed, but where a history has it. The room's other members do not
/// notice. What waits for the connection from other rooms, and what it was sent alone, stays; where that fills the outbox
/// by itself, the connection is closed as with [`Close`](Self::Close).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// The connection is closed with 1013 `slow consumer`. Its client comes back and begins afresh.
    #[default]
    Close,
    /// The room's oldest messages are dropped, a quarter of the outbox at a time, and one `resync` stands in their place.
    DropOldest,
    /// For rooms where each message replaces the one before: while the socket is full, only the newest waits. What it
    /// replaced is not announced.
    Latest,
    /// All the room's messages that wait are dropped, and one `resync` stands in their place.
    ///
    /// Of a kind with a [history](crate::Kind::history) the member is given them later, once its socket takes something
    /// again: from this node's copy of the log, or by one read of it. There is a `resync` only where the log does not have
    /// them any more. Until then it holds none of them, and what else happens in the room, such as the number of viewers,
    /// is told before them.
    Resync,
}

/// The room that a batch comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) room: RoomKey,
    pub(crate) overflow: Overflow,
    /// What the log of the room has is not dropped but left out, and given later.
    pub(crate) heals: bool,
    /// Makes the message that tells the member that it missed something.
    pub(crate) resync: fn(&RoomKey) -> Message,
    pub(crate) recorded: Overflows,
}

/// What a room's message tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// Something of the application's.
    Content,
    /// The same, which the log of the room has at this offset.
    Logged(NonZeroU64),
    /// How many viewers there are: while it waits, the next one replaces it.
    Viewers,
    /// Which users came and went: no other message stands for it.
    Names,
    /// That something is missing.
    Loss,
}

impl About {
    pub(crate) const fn offset(self) -> Option<NonZeroU64> {
        match self {
            Self::Logged(offset) => Some(offset),
            Self::Content | Self::Viewers | Self::Names | Self::Loss => None,
        }
    }

    /// Whether the one may replace the other.
    pub(super) fn is_of_the_sort_of(self, other: Self) -> bool {
        self == other || matches!((self, other), (Self::Content | Self::Logged(_), Self::Content | Self::Logged(_)))
    }
}

impl Overflow {
    /// What it is called in the metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::DropOldest => "drop_oldest",
            Self::Latest => "latest",
            Self::Resync => "resync",
        }
    }
}

impl Source {
    /// Whether a message of this sort takes the place of those that wait.
    pub(super) fn replaces(&self, about: About) -> bool {
        match about {
            About::Viewers => true,
            About::Names => false,
            About::Content | About::Logged(_) | About::Loss => self.overflow == Overflow::Latest,
        }
    }
}

/// How much may wait. Small numbers, because every connection has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) messages: u32,
    pub(super) bytes: u32,
}

impl Bounds {
    pub(super) fn new(limits: &Limits) -> Self {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self { messages: small(limits.max_outbox_messages), bytes: small(limits.max_outbox_bytes) }
    }

    const fn all_but_a_sixteenth(self) -> Self {
        Self { messages: self.messages - self.messages / 16, bytes: self.bytes - self.bytes / 16 }
    }

    const fn three_quarters(self) -> Self {
        Self { messages: self.messages / 4 * 3, bytes: self.bytes / 4 * 3 }
    }
}

/// More waits than may, and nothing of it may be dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overrun;

/// What became of a message of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    Queued,
    /// What the log of the room has from this offset on is left out.
    Behind(NonZeroU64),
}

/// Messages that are brought together at a time where others between them are gone: as many as one `writev` takes.
const BATCH: usize = 64;

/// The places that may be gone beyond as many as wait, before all are brought together.
const SPARE: usize = 16;

/// Messages in their order, with where they come from.
///
/// One that is replaced leaves an empty place behind, so that replacing takes the same time however much waits: a slow
/// member must not cost its room more than a fast one. Empty places are dropped when they come to the front, when what
/// stands between them is to be written, and when they are more than what waits.
#[derive(Default)]
pub(super) struct Queue {
    messages: VecDeque<Message>,
    /// As many as messages; none for what was sent to the connection alone, and for empty places.
    tags: VecDeque<Option<Tag>>,
    /// The number of the first place; they are numbered through.
    first: u64,
    /// Where those wait that the next of their sort replaces.
    latest: HashMap<RoomKey, Latest>,
    waiting: Size,
    /// What was sent to the connection alone: answers, mostly.
    own: Size,
    /// Some was written since the last look.
    taken: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    messages: usize,
    bytes: usize,
}

impl Size {
    fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.bytes += message.frame().len();
    }

    fn subtract(&mut self, message: &Message) {
        self.messages -= 1;
        self.bytes -= message.frame().len();
    }
}

/// The places of a room's messages that will be replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Latest {
    content: Option<u64>,
    viewers: Option<u64>,
    names: Option<u64>,
    loss: Option<u64>,
}

impl Latest {
    const fn of(&mut self, about: About) -> &mut Option<u64> {
        match about {
            About::Content | About::Logged(_) => &mut self.content,
            About::Viewers => &mut self.viewers,
            About::Names => &mut self.names,
            About::Loss => &mut self.loss,
        }
    }
}

/// What a connection's task is to make of what waits for its client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Answers fill more than half of what may wait: the client's next command waits until it has read some. What its
    /// rooms send does not count, as their rules bound it already, and a command may be the one to leave them.
    pub(crate) heavy: bool,
    /// The client has taken some since the last look.
    pub(crate) taken: bool,
    /// Somebody left orders for the connection.
    pub(crate) orders: bool,
    /// A room has left messages out, and the client can be given some of them.
    pub(crate) behind: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    room: RoomKey,
    about: About,
    /// The next of its sort replaces it.
    replaced: bool,
}

impl Tag {
    fn new(source: &Source, about: About) -> Self {
        Self { room: source.room.clone(), about, replaced: source.replaces(about) }
    }
}

impl Queue {
    pub(super) const fn len(&self) -> usize {
        self.waiting.messages
    }

    pub(super) const fn bytes(&self) -> usize {
        self.waiting.bytes
    }

    /// Whether the client should read before it asks for more, and whether it has read since the last look.
    pub(super) fn look(&mut self, bounds: Bounds) -> Backlog {
        let heavy = self.own.messages > bounds.messages as usize / 2 || self.own.bytes > bounds.bytes as usize / 2;
        Backlog { heavy, taken: std::mem::take(&mut self.taken), ..Backlog::default() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.waiting.messages == 0
    }

    /// The first that wait, in order: all that lie side by side; none where nothing waits.
    pub(super) fn messages(&mut self) -> &[Message] {
        let mut count = self.messages.len();
        if self.messages.len() > self.waiting.messages {
            let mut places = 0;
            count = 0;
            for message in &self.messages {
                places += 1;
                count += usize::from(!message.is_gone());
                if count == BATCH {
                    break;
                }
            }
            self.gather(places);
        }
        let (side_by_side, _) = self.messages.as_slices();
        side_by_side.get(..count).unwrap_or(side_by_side)
    }

    /// Forgets the first messages: they are written.
    pub(super) fn written(&mut self, count: usize) {
        self.taken |= count > 0;
        for _ in 0..count {
            self.pop();
        }
        self.tidy();
    }

    /// Appends, whatever the bounds say.
    pub(super) fn append(&mut self, message: Message) {
        self.push(message, None);
    }

    /// Appends what was sent to this connection alone.
    pub(super) fn offer(&mut self, message: &Message, bounds: Bounds) -> Result<(), Overrun> {
        if !self.fits(message, bounds) {
            return Err(Overrun);
        }
        self.push(message.clone(), None);
        Ok(())
    }

    /// Appends a message of a room, and makes place for it as the room wants.
    pub(super) fn offer_from(
        &mut self,
        message: &Message,
        about: About,
        source: &Source,
        bounds: Bounds,
    ) -> Result<Offered, Overrun> {
        if source.replaces(about) {
            self.remove_latest(&source.room, about);
        }
        let roomy = match source.overflow {
            Overflow::Close | Overflow::Latest => bounds,
            // Where messages are dropped to keep a member, a ping or an answer must not be the one too many.
            Overflow::DropOldest | Overflow::Resync => bounds.all_but_a_sixteenth(),
        };
        let mut offered = Offered::Queued;
        let fits = self.fits(message, roomy);
        if !fits {
            source.recorded.applied.add(1);
        }
        match source.overflow {
            _ if fits => {}
            Overflow::Resync if source.heals => {
                let first = self.leave_out(&source.room);
                if let Some(offset) = about.offset() {
                    return Ok(Offered::Behind(first.unwrap_or(offset)));
                }
                offered = first.map_or(offered, Offered::Behind);
                if !self.fits(message, roomy) {
                    self.thin(source, Bounds { messages: 0, bytes: 0 });
                }
            }
            Overflow::Close | Overflow::Latest => return Err(Overrun),
            Overflow::DropOldest => self.thin(source, bounds.three_quarters()),
            Overflow::Resync => self.thin(source, Bounds { messages: 0, bytes: 0 }),
        }
        if !self.fits(message, bounds) {
            return Err(Overrun);
        }
        self.push(message.clone(), Some(Tag::new(source, about)));
        Ok(offered)
    }

    /// Appends a message that was left out, if there is space: all that is given so leaves a quarter free for what comes,
    /// but for one, so that a member to which other rooms send much is given something too.
    pub(super) fn refill(
        &mut self,
        message: &Message,
        about: About,
        source: &Source,
        bounds: Bounds,
        one: bool,
    ) -> bool {
        let most = if one { bounds.all_but_a_sixteenth() } else { bounds.three_quarters() };
        let fits = self.fits(message, most);
        if fits {
            self.push(message.clone(), Some(Tag::new(source, about)));
        }
        fits
    }

    /// Takes out what the log of a room has, but for the first, by which it is seen when the socket takes something again.
    /// Gives the offset of the next, if nothing that waits says it is lost.
    fn leave_out(&mut self, room: &RoomKey) -> Option<NonZeroU64> {
        let (mut stays, mut first) = (true, None);
        for (message, place) in self.messages.iter_mut().zip(&mut self.tags) {
            match place.as_ref().filter(|tag| tag.room == *room).map(|tag| tag.about) {
                Some(About::Logged(_)) if std::mem::take(&mut stays) => {}
                Some(About::Logged(offset)) => {
                    first = first.or(Some(offset));
                    self.waiting.subtract(message);
                    (*message, *place) = (Message::gone(), None);
                }
                // Who is told to fetch has what came before.
                Some(About::Loss) => first = None,
                _ => {}
            }
        }
        self.gather(self.messages.len());
        // One that never reads keeps no memory of what it was not given.
        self.messages.shrink_to_fit();
        self.tags.shrink_to_fit();
        first
    }

    /// An empty queue takes any one message: a client that reads is not slow because its snapshot is large.
    fn fits(&self, message: &Message, bounds: Bounds) -> bool {
        self.is_empty()
            || (self.waiting.messages < bounds.messages as usize
                && self.waiting.bytes + message.frame().len() <= bounds.bytes as usize)
    }

    fn exceeds(&self, bounds: Bounds) -> bool {
        self.waiting.messages > bounds.messages as usize || self.waiting.bytes > bounds.bytes as usize
    }

    fn push(&mut self, message: Message, tag: Option<Tag>) {
        self.waiting.add(&message);
        if tag.is_none() {
            self.own.add(&message);
        }
        self.messages.push_back(message);
        self.tags.push_back(tag);
        self.note(self.messages.len() - 1);
    }

    fn pop(&mut self) -> Option<(Message, Option<Tag>)> {
        loop {
            let (message, tag) = (self.messages.pop_front()?, self.tags.pop_front().flatten());
            self.first += 1;
            if message.is_gone() {
                continue;
            }
            self.waiting.subtract(&message);
            match &tag {
                None => self.own.subtract(&message),
                Some(tag) if tag.replaced => self.forget_latest(&tag.room, tag.about),
                Some(_) => {}
            }
            return Some((message, tag));
        }
    }

    /// Notes where a message is that will be replaced.
    fn note(&mut self, at: usize) {
        if let Some(Some(tag)) = self.tags.get(at)
            && tag.replaced
        {
            let place = Some(self.first + at as u64);
            match self.latest.get_mut(&tag.room) {
                Some(latest) => *latest.of(tag.about) = place,
                None => *self.latest.entry(tag.room.clone()).or_default().of(tag.about) = place,
            }
        }
    }

    fn forget_latest(&mut self, room: &RoomKey, about: About) {
        let Some(latest) = self.latest.get_mut(room) else { return };
        *latest.of(about) = None;
        if *latest == Latest::default() {
            self.latest.remove(room);
        }
    }

    /// Takes out the message of that sort, if one waits: another one follows.
    fn remove_latest(&mut self, room: &RoomKey, about: About) {
        let Some(place) = self.latest.get_mut(room).and_then(|latest| latest.of(about).take()) else { return };
        let at = (place - self.first) as usize;
        let Some(message) = self.messages.get_mut(at) else { return };
        self.waiting.subtract(message);
        *message = Message::gone();
        if let Some(tag) = self.tags.get_mut(at) {
            *tag = None;
        }
        // Where nothing else waits, nothing is left behind.
        while self.messages.back().is_some_and(Message::is_gone) {
            self.messages.pop_back();
            self.tags.pop_back();
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.messages.len() > 2 * self.waiting.messages + SPARE {
            self.gather(self.messages.len());
        }
    }

    /// Brings the messages of the first places together, in their order, and drops the empty places among them.
    fn gather(&mut self, places: usize) {
        let mut to = places;
        for from in (0..places).rev() {
            if self.messages.get(from).is_none_or(Message::is_gone) {
                continue;
            }
            to -= 1;
            if to != from {
                self.messages.swap(from, to);
                self.tags.swap(from, to);
                self.note(to);
            }
        }
        self.messages.drain(..to);
        self.tags.drain(..to);
        self.first += to as u64;
    }

    /// Drops a room's oldest messages until no more than `keep` waits, or none of them is left; the first that is
    /// dropped leaves a `resync` in its place, and one is enough.
    fn thin(&mut self, source: &Source, keep: Bounds) {
        let mut told = false;
        for _ in 0..self.waiting.messages {
            // What has been looked at is at the back again, so this counts all that still waits.
            let over = self.exceeds(keep);
            let Some((message, tag)) = self.pop() else { break };
            let about = tag.as_ref().filter(|tag| tag.room == source.room).map(|tag| tag.about);
            match about {
                Some(About::Loss) if told => {}
                Some(About::Loss) => {
                    told = true;
                    self.push(message, tag);
                }
                Some(About::Content | About::Logged(_) | About::Names) if over => {
                    if !std::mem::replace(&mut told, true) {
                        source.recorded.resyncs.add(1);
                        self.push((source.resync)(&source.room), Some(Tag::new(source, About::Loss)));
                    }
                }
                _ => self.push(message, tag),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { messages: 8, bytes: 1_000 };

    fn source(room: &str, overflow: Overflow) -> Source {
        Source {
            room: room.parse().unwrap(),
            overflow,
            heals: false,
            resync: |_| Message::text("resync"),
            recorded: Overflows::default(),
        }
    }

    /// What waits, with where it comes from.
    fn waiting(queue: &Queue) -> Vec<(Option<Tag>, Message)> {
        let places = queue.tags.iter().cloned().zip(queue.messages.iter().cloned());
        places.filter(|(_, message)| !message.is_gone()).collect()
    }

    fn texts(queue: &Queue) -> Vec<String> {
        waiting(queue).iter().map(|(_, message)| message.as_text().unwrap_or_default().to_owned()).collect()
    }

    fn fill(queue: &mut Queue, source: &Source, numbers: std::ops::Range<usize>) -> Result<(), Overrun> {
        numbers.into_iter().try_for_each(|number| {
            queue.offer_from(&Message::text(format!("{number}")), About::Content, source, BOUNDS).map(drop)
        })
    }

    #[test]
    fn close_takes_up_to_the_bound() {
        let mut queue = Queue::default();
        let source = source("post:1", Overflow::Close);
        fill(&mut queue, &source, 0..8).unwrap();
        assert_eq!(fill(&mut queue, &source, 8..9), Err(Overrun));
        assert_eq!(queue.len(), 8);
    }

    #[test]
    fn the_oldest_go_and_one_resync_stands_in_their_place() {
        let mut queue = Queue::default();
        let source = source("post:1", Overflow::DropOldest);
        queue.offer(&Message::text("alone"), BOUNDS).unwrap();
        fill(&mut queue, &source, 0..8).unwrap();
        assert_eq!(texts(&queue), ["alone", "resync", "3", "4", "5", "6", "7"]);
        fill(&mut queue, &source, 8..10).unwrap();
        assert_eq!(texts(&queue), ["alone", "resync", "5", "6", "7", "8", "9"], "one resync is enough");
    }

    #[test]
    fn resync_drops_all_of_the_room_and_nothing_else() {
        let mut queue = Queue::default();
        let (ours, other) = (source("post:1", Overflow::Resync), source("post:2", Overflow::Resync));
        fill(&mut queue, &other, 100..102).unwrap();
        fill(&mut queue, &ours, 0..7).unwrap();
        assert_eq!(texts(&queue), ["100", "101", "resync", "6"]);
    }

    #[test]
    fn what_the_log_has_is_left_out_but_for_one_and_its_memory_is_given_back() {
        let bounds = Bounds { messages: 1_000, bytes: 1_000_000 };
        let ours = Source { heals: true, ..source("post:1", Overflow::Resync) };
        let logged = |number| About::Logged(NonZeroU64::new(number).unwrap());
        let mut queue = Queue::default();
        let mut offer = |number, about| queue.offer_from(&Message::text(format!("{number}")), about, &ours, bounds);
        offer(0, About::Content).unwrap();
        let offered = (1..=1_000).map(|number| offer(number, logged(number)).unwrap());
        let behind: Vec<_> = offered.filter(|offered| *offered != Offered::Queued).take(1).collect();
        assert_eq!(behind, [Offered::Behind(NonZeroU64::new(2).unwrap())]);
        assert_eq!(texts(&queue), ["0", "1"]);
        assert!(queue.messages.capacity() <= 4, "{}", queue.messages.capacity());

        // A word of a loss covers what was before it.
        let mut queue = Queue::default();
        let mut offer = |number, about| queue.offer_from(&Message::text(format!("{number}")), about, &ours, BOUNDS);
        for number in 1..=8 {
            offer(number, if number == 4 { About::Loss } else { logged(number) }).unwrap();
        }
        assert_eq!(offer(9, logged(9)), Ok(Offered::Behind(NonZeroU64::new(5).unwrap())));
        assert_eq!(texts(&queue), ["1", "4"]);
    }

    #[test]
    fn a_room_that_drops_messages_leaves_space_for_a_ping() {
        let bounds = Bounds { messages: 32, bytes: 1_000_000 };
        for overflow in [Overflow::DropOldest, Overflow::Resync] {
            let (mut queue, source) = (Queue::default(), source("post:1", overflow));
            for number in 0..100 {
                queue.offer_from(&Message::text(number.to_string()), About::Content, &source, bounds).unwrap();
                assert!(queue.len() <= 30, "{overflow:?}");
            }
            queue.offer(&Message::ping(), bounds).unwrap();
        }
    }

    #[test]
    fn a_room_that_drops_messages_is_no_reason_to_close_before_the_bound() {
        let bounds = Bounds { messages: 32, bytes: 1_000_000 };
        let (mut queue, other) = (Queue::default(), source("post:2", Overflow::Close));
        for number in 0..31 {
            queue.offer_from(&Message::text(number.to_string()), About::Content, &other, bounds).unwrap();
        }
        let lossy = source("post:1", Overflow::DropOldest);
        queue.offer_from(&Message::text("the last place"), About::Content, &lossy, bounds).unwrap();
        assert_eq!(queue.offer_from(&Message::text("over"), About::Content, &other, bounds), Err(Overrun));
    }

    #[test]
    fn answers_in_more_than_half_of_what_may_wait_are_a_backlog_and_what_rooms_send_is_none() {
        let mut queue = Queue::default();
        let look = |queue: &mut Queue| (queue.look(BOUNDS).heavy, queue.look(BOUNDS).taken);
        fill(&mut queue, &source("post:1", Overflow::DropOldest), 0..20).unwrap();
        assert_eq!(look(&mut queue), (false, false), "what was dropped was not taken");
        queue.written(queue.len());
        assert!(queue.look(BOUNDS).taken);
        for count in 1..=5 {
            queue.offer(&Message::text("alone"), BOUNDS).unwrap();
            assert_eq!(look(&mut queue), (count > 4, false));
        }
        queue.written(1);
        assert_eq!(queue.look(BOUNDS), Backlog { taken: true, ..Backlog::default() });
        assert_eq!(queue.look(BOUNDS), Backlog::default());
    }

    #[test]
    fn latest_keeps_the_newest_of_each_sort() {
        let mut queue = Queue::default();
        let (ours, other) = (source("post:1", Overflow::Latest), source("post:2", Overflow::Latest));
        fill(&mut queue, &ours, 0..20).unwrap();
        queue.offer_from(&Message::text("2 viewers"), About::Viewers, &ours, BOUNDS).unwrap();
        fill(&mut queue, &other, 50..60).unwrap();
        queue.offer_from(&Message::text("3 viewers"), About::Viewers, &ours, BOUNDS).unwrap();
        assert_eq!(texts(&queue), ["19", "59", "3 viewers"]);
    }

    #[test]
    fn what_is_not_the_rooms_is_never_dropped_for_it() {
        for overflow in [Overflow::Close, Overflow::DropOldest, Overflow::Latest, Overflow::Resync] {
            let mut queue = Queue::default();
            for _ in 0..8 {
                queue.offer(&Message::text("alone"), BOUNDS).unwrap();
            }
            assert_eq!(fill(&mut queue, &source("post:1", overflow), 0..1), Err(Overrun), "{overflow:?}");
            assert_eq!(texts(&queue), ["alone"; 8]);
        }
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_loss_is_told(
            steps in prop::collection::vec((0..3usize, 0..3u8, 0..300usize, 0..4usize), 1..200),
        ) {
            let rooms = [
                source("post:1", Overflow::DropOldest), source("post:2", Overflow::Resync), source("post:3", Overflow::Latest),
            ];
            let mut queue = Queue::default();
            let (mut given, mut out) = ([0; 3], Vec::<(Option<Tag>, Message)>::new());
            for (room, kind, length, written) in steps {
                let about = if kind == 0 { About::Viewers } else { About::Content };
                if queue.offer_from(&Message::text("x".repeat(length)), about, &rooms[room], BOUNDS).is_ok() {
                    given[room] += usize::from(about == About::Content);
                }
                prop_assert!(!queue.exceeds(BOUNDS) || queue.len() == 1);
                prop_assert_eq!(queue.bytes(), queue.messages.iter().map(|m| m.frame().len()).sum::<usize>());
                prop_assert_eq!(queue.messages.len(), queue.tags.len());
                let written = written.min(queue.len());
                out.extend(waiting(&queue).into_iter().take(written));
                queue.written(written);
            }
            out.extend(waiting(&queue));
            for (number, room) in rooms.iter().enumerate().take(2) {
                let of = |about| out.iter().filter(|(tag, _)| tag.as_ref() == Some(&Tag::new(room, about))).count();
                prop_assert!(of(About::Content) == given[number] || of(About::Loss) > 0, "dropped without a word");
            }
        }

        #[test]
        fn what_waits_is_what_a_plain_list_has(
            steps in prop::collection::vec((0..12u8, 0..4usize, 0..100usize, 0..90usize), 1..600),
        ) {
            let rooms = [
                source("post:1", Overflow::Latest), source("post:2", Overflow::Latest),
                source("post:3", Overflow::Close), source("post:4", Overflow::Resync),
            ];
            let bounds = Bounds { messages: 10_000, bytes: 10_000_000 };
            let (mut queue, mut list) = (Queue::default(), Vec::<(Option<(usize, About)>, Message)>::new());
            for (number, (step, room, length, written)) in steps.into_iter().enumerate() {
                let message = Message::text(format!("{number} {}", "x".repeat(length)));
                let about = match step {
                    0 => {
                        queue.offer(&message, bounds).unwrap();
                        list.push((None, message));
                        continue;
                    }
                    1 => {
                        // As the connection's task does: what lies side by side, and then the next.
                        let mut left = written.min(list.len());
                        while left > 0 {
                            let some = queue.messages();
                            prop_assert!(!some.is_empty() && some.iter().all(|message| !message.is_gone()));
                            let some: Vec<_> = some.iter().take(left).cloned().collect();
                            let expected: Vec<_> = list.drain(..some.len()).map(|(_, message)| message).collect();
                            prop_assert_eq!(&some, &expected);
                            queue.written(some.len());
                            left -= some.len();
                        }
                        continue;
                    }
                    2 => About::Viewers,
                    3 => About::Names,
                    4 => About::Loss,
                    _ => About::Content,
                };
                if rooms[room].replaces(about) {
                    list.retain(|(of, _)| *of != Some((room, about)));
                }
                queue.offer_from(&message, about, &rooms[room], bounds).unwrap();
                list.push((Some((room, about)), message));

                prop_assert_eq!(queue.len(), list.len());
                prop_assert_eq!(queue.bytes(), list.iter().map(|(_, message)| message.frame().len()).sum::<usize>());
                prop_assert_eq!(queue.own.messages, list.iter().filter(|(of, _)| of.is_none()).count());
                prop_assert!(queue.messages.len() <= 2 * list.len() + SPARE, "empty places are dropped");
                prop_assert!(queue.latest.len() <= list.len(), "and forgotten");
            }
            let left: Vec<_> = waiting(&queue).into_iter().map(|(_, message)| message).collect();
            prop_assert_eq!(left, list.into_iter().map(|(_, message)| message).collect::<Vec<_>>());
        }
    }
}
