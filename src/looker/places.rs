//! Places among the runs that are received at once. Who waits gets one in turn: token by token, and within a token
//! Looker by Looker, so that whoever sends many waits behind its own and not before others. Where no more may wait, the
//! last one of whoever has the most waiting is sent away.
//!
//! A token cannot be made up, so it is what limits count; an instance's name can, so it only orders what shares a token.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::token::TokenId;

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Most {
    /// Runs at once.
    pub(super) runs: usize,
    /// Of one token; 0: no own limit.
    pub(super) of_a_token: usize,
}

impl std::fmt::Display for Most {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "hub.max_runs = {}", self.runs)?;
        match self.of_a_token {
            0 => Ok(()),
            most => write!(f, ", of one token hub.max_runs_per_token = {most},"),
        }
    }
}

/// Who asks for a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) token: TokenId,
    /// What the Looker calls itself.
    pub(super) instance: String,
}

/// As many wait as may, and the asker has its part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowded;

/// All places of a hub.
#[derive(Debug)]
pub(super) struct Places(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    most: Most,
    taken: usize,
    /// Taken ones of each token that has any.
    by_token: HashMap<TokenId, usize>,
    turns: Turns<Waiting>,
    /// Of the next ticket.
    number: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    sender: oneshot::Sender<Place>,
}

/// A turn in the queue; dropped, it is given up.
#[derive(Debug)]
pub(super) struct Ticket {
    places: Arc<Places>,
    number: u64,
    receiver: oneshot::Receiver<Place>,
}

/// A place; dropped, it is the next one's.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    token: TokenId,
}

impl Places {
    pub(super) fn new(most: Most) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            most,
            taken: 0,
            by_token: HashMap::new(),
            turns: Turns::default(),
            number: 0,
        })))
    }

    /// Other limits from now on. Those that have a place keep it.
    pub(super) fn limit(self: &Arc<Self>, most: Most) {
        self.lock().most = most;
        self.hand_out();
    }

    /// A turn for one more, where at most so many wait.
    pub(super) fn queue(self: &Arc<Self>, who: &Who, most_waiting: usize) -> Result<Ticket, Crowded> {
        let (sender, receiver) = oneshot::channel();
        let number = {
            let mut inner = self.lock();
            inner.number += 1;
            let number = inner.number;
            inner.turns.push(who, Waiting { number, sender });
            number
        };
        let ticket = Ticket {
            places: Arc::clone(self),
            number,
            receiver,
        };
        self.hand_out();
        // Its sender goes with it: it hears that it is crowded.
        let sent_away = {
            let mut inner = self.lock();
            if inner.turns.len > most_waiting {
                inner.turns.send_away(who)
            } else {
                None
            }
        };
        match sent_away {
            Some(waiting) if waiting.number == number => Err(Crowded),
            _ => Ok(ticket),
        }
    }

    /// Free places go to those whose turn it is.
    fn hand_out(self: &Arc<Self>) {
        let mut turns = Vec::new();
        {
            let mut inner = self.lock();
            while let Some(turn) = inner.next() {
                turns.push(turn);
            }
        }
        for (token, sender) in turns {
            let place = Place {
                places: Arc::clone(self),
                token,
            };
            // Where nobody waits any more it comes back, and is handed out again as it is dropped.
            drop(sender.send(place));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next(&mut self) -> Option<(TokenId, oneshot::Sender<Place>)> {
        if self.taken >= self.most.runs {
            return None;
        }
        let (by_token, most) = (&self.by_token, self.most.of_a_token);
        let may = |token: &TokenId| most == 0 || by_token.get(token).is_none_or(|taken| *taken < most);
        let (token, waiting) = self.turns.next(may)?;
        self.taken += 1;
        *self.by_token.entry(token).or_default() += 1;
        Some((token, waiting.sender))
    }
}

impl Ticket {
    /// The place, where its turn has come already. None: it is to be waited for.
    pub(super) fn at_once(&mut self) -> Result<Option<Place>, Crowded> {
        match self.receiver.try_recv() {
            Ok(place) => Ok(Some(place)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Closed) => Err(Crowded),
        }
    }

    /// Waits for its turn. Cancelled, it can be asked again.
    pub(super) async fn place(&mut self) -> Result<Place, Crowded> {
        (&mut self.receiver).await.map_err(|_| Crowded)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let given_up = self.places.lock().turns.remove(|waiting| waiting.number == self.number);
        drop(given_up);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut inner = self.places.lock();
            inner.taken = inner.taken.saturating_sub(1);
            if let Some(taken) = inner.by_token.get_mut(&self.token) {
                *taken = taken.saturating_sub(1);
                if *taken == 0 {
                    inner.by_token.remove(&self.token);
                }
            }
        }
        self.places.hand_out();
    }
}

/// Who waits, in the order of their turns: pure.
#[derive(Debug)]
struct Turns<T> {
    /// The first token has the next turn, and goes to the end with it.
    ring: VecDeque<Token<T>>,
    len: usize,
}

#[derive(Debug)]
struct Token<T> {
    id: TokenId,
    /// The same again, Looker by Looker.
    lookers: VecDeque<(String, VecDeque<T>)>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            ring: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Token<T> {
    fn len(&self) -> usize {
        self.lookers.iter().map(|(_, waiting)| waiting.len()).sum()
    }
}

impl<T> Turns<T> {
    fn push(&mut self, who: &Who, one: T) {
        self.len += 1;
        let new = VecDeque::from([one]);
        let Some(token) = self.ring.iter_mut().find(|token| token.id == who.token) else {
            let lookers = VecDeque::from([(who.instance.clone(), new)]);
            return self.ring.push_back(Token { id: who.token, lookers });
        };
        match token.lookers.iter_mut().find(|(instance, _)| *instance == who.instance) {
            Some((_, waiting)) => waiting.extend(new),
            None => token.lookers.push_back((who.instance.clone(), new)),
        }
    }

    /// The next one of a token that may.
    fn next(&mut self, may: impl Fn(&TokenId) -> bool) -> Option<(TokenId, T)> {
        let index = self.ring.iter().position(|token| may(&token.id))?;
        let mut token = self.ring.remove(index)?;
        let (instance, mut waiting) = token.lookers.pop_front()?;
        let one = waiting.pop_front()?;
        self.len -= 1;
        let id = token.id;
        if !waiting.is_empty() {
            token.lookers.push_back((instance, waiting));
        }
        if !token.lookers.is_empty() {
            self.ring.push_back(token);
        }
        Some((id, one))
    }

    /// The last one of the Looker that has the most waiting, of the token that has; of `newcomer` where that has as many.
    fn send_away(&mut self, newcomer: &Who) -> Option<T> {
        let token = self
            .ring
            .iter_mut()
            .max_by_key(|token| (token.len(), token.id == newcomer.token))?;
        let (_, waiting) = token
            .lookers
            .iter_mut()
            .max_by_key(|(instance, waiting)| (waiting.len(), *instance == newcomer.instance))?;
        let last = waiting.pop_back()?;
        self.len -= 1;
        self.sweep();
        Some(last)
    }

    fn remove(&mut self, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let queues = self.ring.iter_mut().flat_map(|token| &mut token.lookers);
        for (_, waiting) in queues {
            if let Some(index) = waiting.iter().position(&is_it) {
                let one = waiting.remove(index)?;
                self.len -= 1;
                self.sweep();
                return Some(one);
            }
        }
        None
    }

    /// Who has nobody waiting any more has no turn.
    fn sweep(&mut self) {
        for token in &mut self.ring {
            token.lookers.retain(|(_, waiting)| !waiting.is_empty());
        }
        self.ring.retain(|token| !token.lookers.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn who(token: u8, instance: &str) -> Who {
        Who {
            token: TokenId::of(&[token]),
            instance: instance.to_owned(),
        }
    }

    fn most(runs: usize, of_a_token: usize) -> Most {
        Most { runs, of_a_token }
    }

    /// Places that are taken, and runs that wait.
    fn counts(places: &Places) -> (usize, usize) {
        let inner = places.lock();
        (inner.taken, inner.turns.len)
    }

    #[test]
    fn turns_go_token_by_token_and_looker_by_looker() {
        let mut turns = Turns::default();
        for number in 0..4 {
            turns.push(&who(1, "loud"), format!("loud{number}"));
        }
        turns.push(&who(1, "calm"), "calm".to_owned());
        turns.push(&who(2, "other"), "other0".to_owned());
        turns.push(&who(2, "other"), "other1".to_owned());
        let order: Vec<String> = std::iter::from_fn(|| turns.next(|_| true))
            .map(|(_, one)| one)
            .collect();
        assert_eq!(order, ["loud0", "other0", "calm", "other1", "loud1", "loud2", "loud3"]);
        assert!(turns.ring.is_empty() && turns.len == 0);
    }

    #[tokio::test]
    async fn one_token_leaves_the_others_their_places() {
        let places = Places::new(most(3, 2));
        let mut greedy: Vec<Ticket> = (0..5).map(|_| places.queue(&who(1, "a"), 9).unwrap()).collect();
        let first = greedy[0].place().await.unwrap();
        let _second = greedy[1].place().await.unwrap();
        assert!(greedy[2].receiver.try_recv().is_err(), "two of three is its part");
        let mut modest = places.queue(&who(2, "b"), 9).unwrap();
        let _theirs = modest.place().await.unwrap();
        drop(first);
        let _third = greedy[2].place().await.unwrap();
        // A larger configuration lets more go at once.
        places.limit(most(4, 0));
        let _fourth = greedy[3].place().await.unwrap();
        assert!(greedy[4].receiver.try_recv().is_err());
    }

    #[tokio::test]
    async fn who_is_sent_away_before_it_has_asked_is_told_so() {
        let places = Places::new(most(1, 0));
        let mut first = places.queue(&who(1, "a"), 2).unwrap();
        let mut waiting = places.queue(&who(1, "a"), 2).unwrap();
        let mut sent_away = places.queue(&who(1, "a"), 2).unwrap();
        let _other = places.queue(&who(2, "b"), 2).unwrap();
        let _place = first.at_once().unwrap().unwrap();
        assert!(waiting.at_once().unwrap().is_none());
        assert_eq!(sent_away.at_once().map(|_| ()), Err(Crowded));
    }

    #[tokio::test]
    async fn who_has_the_most_waiting_is_sent_away_first() {
        let places = Places::new(most(1, 0));
        let _running = places.queue(&who(1, "a"), 3).unwrap();
        let mut waiting: Vec<Ticket> = (0..3).map(|_| places.queue(&who(1, "a"), 3).unwrap()).collect();
        assert_eq!(
            places.queue(&who(1, "a"), 3).map(|_| ()),
            Err(Crowded),
            "its own are enough"
        );
        let mut other = places.queue(&who(1, "b"), 3).unwrap();
        assert_eq!(
            waiting[2].place().await.map(|_| ()),
            Err(Crowded),
            "the last of the many"
        );
        let another = places.queue(&who(2, "c"), 3).unwrap();
        assert_eq!(waiting[1].place().await.map(|_| ()), Err(Crowded));
        assert_eq!(
            places.queue(&who(2, "c"), 3).map(|_| ()),
            Err(Crowded),
            "as many as the others have"
        );
        drop(another);
        drop(_running);
        drop(waiting[0].place().await.unwrap());
        drop(other.place().await.unwrap());
        assert_eq!(counts(&places), (0, 0));
    }

    proptest! {
        #[test]
        fn no_limit_is_passed_no_place_is_lost_and_none_lies_idle(
            runs in 1_usize..6, of_a_token in 0_usize..4,
            steps in proptest::collection::vec((0_u8..4, 0_u8..3, 0_usize..8), 1..120),
        ) {
            let places = Places::new(most(runs, of_a_token));
            let mut tickets: Vec<(u8, Ticket)> = Vec::new();
            let mut held: Vec<(u8, Place)> = Vec::new();
            for (token, instance, what) in steps {
                match what {
                    0 if !held.is_empty() => drop(held.swap_remove(usize::from(instance) % held.len())),
                    1 if !tickets.is_empty() => drop(tickets.swap_remove(usize::from(instance) % tickets.len())),
                    _ => tickets.extend(places.queue(&who(token, &instance.to_string()), 6).ok().map(|one| (token, one))),
                }
                tickets.retain_mut(|(token, ticket)| match ticket.receiver.try_recv() {
                    Ok(place) => {
                        held.push((*token, place));
                        false
                    }
                    Err(oneshot::error::TryRecvError::Empty) => true,
                    Err(oneshot::error::TryRecvError::Closed) => false,
                });
                let (taken, waiting) = counts(&places);
                prop_assert!(taken == held.len() && taken <= runs && waiting == tickets.len() && waiting <= 6);
                let of = |token: u8| held.iter().filter(|(of, _)| *of == token).count();
                prop_assert!(of_a_token == 0 || (0..4).all(|token| of(token) <= of_a_token));
                // Who waits does so for a limit.
                let idle = taken < runs && tickets.iter().any(|(token, _)| of_a_token == 0 || of(*token) < of_a_token);
                prop_assert!(!idle);
            }
            drop((tickets, held));
            let inner = places.lock();
            prop_assert_eq!((inner.taken, inner.by_token.len(), inner.turns.len), (0, 0, 0));
        }
    }
}
