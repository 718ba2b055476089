//! The places of a listener's connections: how many there are, each peer's share, and who makes room for a newcomer.
//!
//! A connection with a request under way never makes room. When only such are left, the newcomer is turned away.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::activity::ConnectionActivity;

/// The bits of an IPv6 address that stand for one peer: a host has the 64 others to itself.
const PEER_BITS: u128 = u128::MAX << 64;

/// Whom a share belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PeerNetwork {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl From<IpAddr> for PeerNetwork {
    fn from(addr: IpAddr) -> Self {
        // A socket that listens on both families sees ::ffff:192.0.2.1, and all of those are in one /64.
        match addr.to_canonical() {
            IpAddr::V4(addr) => Self::V4(addr),
            IpAddr::V6(addr) => Self::V6(Ipv6Addr::from_bits(addr.to_bits() & PEER_BITS)),
        }
    }
}

/// The connections of a listener that hold a place.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    max: usize,
    per_peer: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    connections: HashMap<u64, Connection>,
    /// How many of them count against each peer's share.
    shares: HashMap<PeerNetwork, usize>,
    serial: u64,
}

#[derive(Debug)]
struct Connection {
    activity: Arc<ConnectionActivity>,
    /// Whose share it counts against; a verified peer has none.
    share: Option<PeerNetwork>,
}

impl Places {
    fn remove(&mut self, serial: u64) {
        if let Some(connection) = self.connections.remove(&serial) {
            self.release_share(connection.share);
        }
    }

    fn release_share(&mut self, share: Option<PeerNetwork>) {
        let Some(peer) = share else { return };
        if let Some(count) = self.shares.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.shares.remove(&peer);
            }
        }
    }

    /// Makes the most dispensable connection leave its place; only `peer`'s, where one is given.
    fn evict(&mut self, peer: Option<PeerNetwork>) -> bool {
        let candidates = self
            .connections
            .iter()
            .filter(|(_, other)| peer.is_none() || other.share == peer);
        let ranked =
            candidates.filter_map(|(serial, other)| Some((other.activity.dispensable()?, *serial)));
        let Some((_, serial)) = ranked.min() else {
            return false;
        };
        if let Some(connection) = self.connections.get(&serial) {
            connection.activity.evict();
        }
        self.remove(serial);
        true
    }
}

/// What became of a newcomer.
#[derive(Debug)]
pub(super) enum Claimed {
    /// It has a place; whether another connection had to leave for it.
    Place(Place, bool),
    /// All places that it could have are taken by requests under way.
    Full,
}

impl ConnectionTable {
    /// A table of `max` places, of which the connections of one peer get `per_peer` at most.
    pub(super) fn new(max: usize, per_peer: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            per_peer,
            places: Mutex::default(),
        })
    }

    /// Gives a new connection a place, if need be that of another one.
    pub(super) fn claim(
        self: &Arc<Self>,
        addr: IpAddr,
        activity: &Arc<ConnectionActivity>,
    ) -> Claimed {
        let peer = PeerNetwork::from(addr);
        let mut places = self.lock();
        let evicted = if places
            .shares
            .get(&peer)
            .is_some_and(|count| *count >= self.per_peer)
        {
            Some(places.evict(Some(peer)))
        } else if places.connections.len() >= self.max {
            Some(places.evict(None))
        } else {
            None
        };
        if evicted == Some(false) {
            return Claimed::Full;
        }
        places.serial += 1;
        let serial = places.serial;
        places.connections.insert(
            serial,
            Connection {
                activity: Arc::clone(activity),
                share: Some(peer),
            },
        );
        *places.shares.entry(peer).or_default() += 1;
        Claimed::Place(
            Place {
                table: Arc::clone(self),
                serial,
            },
            evicted.is_some(),
        )
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    table: Arc<ConnectionTable>,
    serial: u64,
}

impl Place {
    /// Takes the connection out of its peer's share: it has shown a certificate.
    pub(super) fn exempt(&self) {
        let mut places = self.table.lock();
        let share = places
            .connections
            .get_mut(&self.serial)
            .and_then(|connection| connection.share.take());
        places.release_share(share);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().remove(self.serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::time::Duration;
    use tokio::time::advance;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    struct Client {
        activity: Arc<ConnectionActivity>,
        place: Option<Place>,
        evicted_another: bool,
    }

    impl Client {
        fn new(table: &Arc<ConnectionTable>, addr: IpAddr) -> Self {
            let activity = ConnectionActivity::new(Duration::from_hours(1));
            let (place, evicted_another) = match table.claim(addr, &activity) {
                Claimed::Place(place, evicted) => (Some(place), evicted),
                Claimed::Full => (None, false),
            };
            Self {
                activity,
                place,
                evicted_another,
            }
        }

        fn was_evicted(&self) -> bool {
            self.activity.is_closing()
        }

        /// Makes it a connection that served a request and is idle from now on.
        fn serve(&self) {
            drop(self.activity.begin());
            self.activity.flushed();
        }
    }

    fn flags<const N: usize>(clients: [&Client; N]) -> [bool; N] {
        clients.map(Client::was_evicted)
    }

    #[tokio::test(start_paused = true)]
    async fn never_used_connections_leave_first_the_oldest_before_the_younger_then_the_longest_idle()
     {
        let table = ConnectionTable::new(4, 4);
        let used_early = Client::new(&table, A);
        let used_late = Client::new(&table, A);
        used_late.serve();
        advance(Duration::from_secs(1)).await;
        used_early.serve();
        let first_unused = Client::new(&table, A);
        advance(Duration::from_secs(1)).await;
        let second_unused = Client::new(&table, A);
        let all = [&used_early, &used_late, &first_unused, &second_unused];
        assert_eq!(flags(all), [false; 4], "there was room");

        let mut newcomers = Vec::new();
        for expected in [
            [false, false, true, false],
            [false, false, true, true],
            // It served first and has been idle for longer.
            [false, true, true, true],
            [true, true, true, true],
        ] {
            let newcomer = Client::new(&table, B);
            newcomer.serve();
            advance(Duration::from_secs(1)).await;
            assert!(newcomer.place.is_some() && newcomer.evicted_another);
            newcomers.push(newcomer);
            assert_eq!(flags(all), expected);
        }
        assert!(newcomers.iter().all(|newcomer| !newcomer.was_evicted()));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_under_way_keep_their_places_and_the_newcomer_is_turned_away() {
        let table = ConnectionTable::new(2, 2);
        let (answering, sending) = (Client::new(&table, A), Client::new(&table, A));
        let _answering = answering.activity.begin();
        // Its response is handed over and not sent yet.
        drop(sending.activity.begin());
        assert!(Client::new(&table, B).place.is_none());
        assert_eq!(flags([&answering, &sending]), [false; 2]);
        sending.activity.flushed();
        assert!(Client::new(&table, B).place.is_some());
        assert_eq!(flags([&answering, &sending]), [false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_above_its_share_makes_room_among_its_own_while_others_lose_nothing() {
        let table = ConnectionTable::new(10, 3);
        let other = Client::new(&table, B);
        let own: Vec<_> = (0..3).map(|_| Client::new(&table, A)).collect();
        assert_eq!(
            flags([&own[0], &own[1], &own[2]]),
            [false; 3],
            "at the share"
        );
        let above = Client::new(&table, A);
        assert!(above.place.is_some() && above.evicted_another);
        assert_eq!(
            flags([&own[0], &own[1], &own[2], &other]),
            [true, false, false, false]
        );

        let _busy = [
            own[1].activity.begin(),
            own[2].activity.begin(),
            above.activity.begin(),
        ];
        assert!(
            Client::new(&table, A).place.is_none(),
            "all of its own are busy"
        );
        let newcomer = Client::new(&table, B);
        assert!(newcomer.place.is_some() && !newcomer.evicted_another);
        assert_eq!(flags([&own[1], &own[2], &above, &other]), [false; 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_a_verified_peer_count_against_no_share() {
        let table = ConnectionTable::new(4, 1);
        let verified = Client::new(&table, A);
        verified.place.as_ref().unwrap().exempt();
        let second = Client::new(&table, A);
        second.place.as_ref().unwrap().exempt();
        let third = Client::new(&table, A);
        assert_eq!(flags([&verified, &second, &third]), [false; 3]);
        let fourth = Client::new(&table, A);
        assert!(fourth.place.is_some());
        assert_eq!(
            flags([&verified, &second, &third]),
            [false, false, true],
            "the share is for the others"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_back_is_free_for_the_peer_and_for_others() {
        let table = ConnectionTable::new(2, 1);
        for _ in 0..3 {
            let client = Client::new(&table, A);
            let verified = Client::new(&table, B);
            verified.place.as_ref().unwrap().exempt();
            assert!(!client.evicted_another && !verified.evicted_another);
        }
        assert!(table.lock().connections.is_empty() && table.lock().shares.is_empty());
    }

    #[rstest]
    #[case("192.0.2.1", "192.0.2.2", false)]
    #[case("192.0.2.1", "::ffff:192.0.2.1", true)]
    #[case("::ffff:192.0.2.1", "::ffff:192.0.2.2", false)]
    #[case("2001:db8::1", "2001:db8::ffff:1", true)]
    #[case("2001:db8::1", "2001:db8:0:1::1", false)]
    fn a_peer_is_an_ipv4_address_or_an_ipv6_network(
        #[case] one: &str,
        #[case] other: &str,
        #[case] same: bool,
    ) {
        let peer = |text: &str| PeerNetwork::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(peer(one) == peer(other), same);
    }
}
