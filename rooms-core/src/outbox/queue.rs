//! What waits for a member whose socket is full.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU64,
};

use super::source::{About, Overflow, Source};
use crate::{bus::Position, limits::Limits, message::Message, room_key::RoomKey};

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

    /// Half of the place for answers is taken: it is not for the answers to commands alone, a ping needs some too.
    const fn all_but_a_thirty_second(self) -> Self {
        Self { messages: self.messages - self.messages / 32, bytes: self.bytes - self.bytes / 32 }
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
    /// Of that, the answers to joins, which are bounded by themselves.
    standing: Size,
    /// And what joins replay, which is bounded by the room that gives it.
    replayed: Size,
    /// Some was written since the last look.
    taken: bool,
    /// How often messages were dropped, and a `resync` put in their place.
    resyncs: u32,
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
            // Nothing replaces these.
            About::Names | About::Standing | About::Replayed => &mut self.names,
            About::Loss(_) => &mut self.loss,
        }
    }
}

/// What a connection's task is to make of what waits for its client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Answers fill more than half of what may wait, or there is hardly space for one more: the client's next command
    /// waits until it has read some. What its rooms send is bounded by their rules, and where those drop or leave out they
    /// do not fill that space; a command may be the one to leave them.
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

    pub(super) const fn resyncs(&self) -> u32 {
        self.resyncs
    }

    /// Whether the client should read before it asks for more, and whether it has read since the last look.
    pub(super) fn look(&mut self, bounds: Bounds) -> Backlog {
        let most = bounds.all_but_a_thirty_second();
        let heavy = self.own.messages > bounds.messages as usize / 2
            || self.own.bytes > bounds.bytes as usize / 2
            || self.waiting.messages >= most.messages as usize
            || self.waiting.bytes >= most.bytes as usize;
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

    /// Appends a message of a room, whatever the bounds say.
    pub(super) fn append_from(&mut self, message: Message, about: About, source: &Source) {
        if source.replaces(about) {
            self.remove_latest(&source.room, about);
        }
        self.push(message, Some(Tag::new(source, about)));
    }

    /// Appends what was sent to this connection alone.
    pub(super) fn offer(&mut self, message: &Message, bounds: Bounds) -> Result<(), Overrun> {
        if !self.fits(message, bounds) {
            return Err(Overrun);
        }
        self.push(message.clone(), None);
        Ok(())
    }

    /// Appends the answer to a join, or a part of it. It may be long, as it has what the application and the room tell of
    /// themselves, and one who is only slow is to be told where it stands: so such answers have a separate budget of the
    /// same size, and one of them may be longer than that. A client that does not read them asks for no more, as they are
    /// [heavy](Backlog::heavy).
    pub(super) fn offer_standing(&mut self, message: &Message, room: &RoomKey, bounds: Bounds) -> Result<(), Overrun> {
        let fits = self.standing.messages < bounds.messages as usize
            && self.standing.bytes + message.frame().len() <= bounds.bytes as usize;
        if !fits && self.standing.messages > 0 {
            return Err(Overrun);
        }
        self.push(message.clone(), Some(Tag { room: room.clone(), about: About::Standing, replaced: false }));
        Ok(())
    }

    /// Appends what a join is given behind its answer: it takes no space of what its rooms send, so that a ping has some.
    pub(super) fn append_replayed(&mut self, message: Message, room: &RoomKey) {
        self.push(message, Some(Tag { room: room.clone(), about: About::Replayed, replaced: false }));
    }

    /// What waits of a room is of a membership that is over: the log does not give it again to the one that begins.
    pub(super) fn part_with(&mut self, room: &RoomKey) {
        for tag in self.tags.iter_mut().flatten().filter(|tag| tag.room == *room && tag.about.offset().is_some()) {
            tag.about = About::Content;
        }
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
    pub(super) fn leave_out(&mut self, room: &RoomKey) -> Option<NonZeroU64> {
        let (mut stays, mut first) = (true, None);
        for (message, place) in self.messages.iter_mut().zip(&mut self.tags) {
            match place.as_ref().filter(|tag| tag.room == *room).map(|tag| tag.about) {
                Some(About::Logged(_)) if std::mem::take(&mut stays) => {}
                Some(about @ About::Logged(_)) => {
                    first = first.or(about.offset());
                    self.waiting.subtract(message);
                    (*message, *place) = (Message::gone(), None);
                }
                // Who is told to fetch has what came before.
                Some(About::Loss(_)) => first = None,
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
        let there = self.counted();
        self.is_empty()
            || (there.messages < bounds.messages as usize
                && there.bytes + message.frame().len() <= bounds.bytes as usize)
    }

    fn exceeds(&self, bounds: Bounds) -> bool {
        let there = self.counted();
        there.messages > bounds.messages as usize || there.bytes > bounds.bytes as usize
    }

    /// What waits, without the answers to joins and what they replay.
    const fn counted(&self) -> Size {
        Size {
            messages: self.waiting.messages - self.standing.messages - self.replayed.messages,
            bytes: self.waiting.bytes - self.standing.bytes - self.replayed.bytes,
        }
    }

    fn push(&mut self, message: Message, tag: Option<Tag>) {
        self.waiting.add(&message);
        match tag.as_ref().map(|tag| tag.about) {
            None => self.own.add(&message),
            Some(About::Standing) => {
                self.own.add(&message);
                self.standing.add(&message);
            }
            Some(About::Replayed) => {
                self.own.add(&message);
                self.replayed.add(&message);
            }
            Some(_) => {}
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
                Some(Tag { about: About::Standing, .. }) => {
                    self.own.subtract(&message);
                    self.standing.subtract(&message);
                }
                Some(Tag { about: About::Replayed, .. }) => {
                    self.own.subtract(&message);
                    self.replayed.subtract(&message);
                }
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
    /// dropped leaves a `resync` in its place, and one is enough. It has the position of the last that is dropped. What is
    /// dropped behind the answer to a join has one of its own behind that answer, which tells the client where it is.
    fn thin(&mut self, source: &Source, keep: Bounds) {
        let (mut told, mut position, mut kept) = (None, None, false);
        for _ in 0..self.waiting.messages {
            // What has been looked at is at the back again, so this counts all that still waits.
            let over = self.exceeds(keep);
            let Some((message, tag)) = self.pop() else { break };
            let about = tag.as_ref().filter(|tag| tag.room == source.room).map(|tag| tag.about);
            match about {
                // A later word stands where it stood, if something is given before it.
                Some(About::Loss(at)) if !kept => {
                    position = at;
                    if told.is_none() {
                        self.push(message, tag);
                        told = Some((self.last_place(), at));
                    }
                }
                Some(about @ (About::Content | About::Logged(_) | About::Names)) if over => {
                    if told.is_none() {
                        self.resyncs += 1;
                        source.recorded.resyncs.add(1);
                        self.push((source.resync)(&source.room, None), Some(Tag::new(source, About::Loss(None))));
                        told = Some((self.last_place(), None));
                    }
                    if let About::Logged(at) = about {
                        position = Some(at);
                    }
                }
                Some(About::Standing | About::Replayed) => {
                    self.complete(source, told.take(), position.take());
                    kept = false;
                    self.push(message, tag);
                }
                _ => {
                    kept |= about.is_some_and(|about| about != About::Viewers);
                    self.push(message, tag);
                }
            }
        }
        self.complete(source, told, position);
    }

    /// What a word of a loss says has to hold for what was dropped behind it, too.
    fn complete(&mut self, source: &Source, told: Option<(u64, Option<Position>)>, position: Option<Position>) {
        if let Some((place, said)) = told
            && said != position
        {
            let tag = Tag::new(source, About::Loss(position));
            self.replace(place, (source.resync)(&source.room, position), tag);
        }
    }

    fn last_place(&self) -> u64 {
        self.first + self.messages.len() as u64 - 1
    }

    /// Puts a message of a room in the place of another one.
    fn replace(&mut self, place: u64, message: Message, tag: Tag) {
        let at = (place - self.first) as usize;
        let Some((old, old_tag)) = self.messages.get_mut(at).zip(self.tags.get_mut(at)) else { return };
        self.waiting.subtract(old);
        self.waiting.add(&message);
        (*old, *old_tag) = (message, Some(tag));
    }
}

#[cfg(test)]
mod tests;
