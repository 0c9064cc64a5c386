//! A simulated fleet of trams and buses, which move along the lines of a city: deterministic, and without a clock.
//!
//! A line leads from one terminus through the centre to another one, with a stop every few hundred metres. A vehicle
//! accelerates, brakes before stops, waits there while passengers change, turns round at the end, and meets more or less
//! traffic. Buses run on batteries and charge at the ends of their lines. Now and then a vehicle leaves for the depot.

use serde::Serialize;

/// Where the city is: degrees of latitude and longitude.
const CENTRE: (f64, f64) = (53.55, 10.0);

/// Metres of a degree of latitude.
const DEGREE: f64 = 111_320.0;

/// Lines of trams, and of buses, which have the numbers behind.
const TRAM_LINES: usize = 4;
const BUS_LINES: usize = 8;

/// The longest time of a step of the simulation, in seconds: what happens in it does not depend on how often it is shown.
const STEP: f64 = 0.5;

/// The longest time that is made up for, in seconds, as after the machine has slept.
const LONGEST: f64 = 30.0;

/// In m/s².
const ACCELERATION: f64 = 1.0;

/// Seconds behind the timetable from which a vehicle counts as delayed.
const DELAYED: f64 = 180.0;

/// Percent of a battery that a bus uses in a metre, and loads in a second.
const USE: f64 = 2.0 / 1000.0;
const LOAD: f64 = 0.4;

/// Percent below which a bus charges at the end of its line, and up to which it does.
const LOW: f64 = 35.0;
const FULL: f64 = 92.0;

/// Parts of the names of stops.
const FIRST: [&str; 16] = [
    "Mill", "Harbour", "Garden", "Castle", "Market", "Bridge", "Church", "School", "River", "Station", "Oak",
    "Museum", "Theatre", "Park", "Hill", "Lock",
];
const SECOND: [&str; 7] = ["Street", "Square", "Road", "Lane", "Gate", "Corner", "Avenue"];

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators): the same numbers for ever, which
/// generators of crates do not promise.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `from` up to `to`.
    fn between(&mut self, from: f64, to: f64) -> f64 {
        // The upper 53 bits are a number from 0 to 1.
        let part = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        from + (to - from) * part
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let index = self.next() % (all.len().max(1) as u64);
        all.get(usize::try_from(index).unwrap_or(0)).copied()
    }
}

/// A stop of a line.
#[derive(Debug, Clone)]
struct Stop {
    name: String,
    /// Metres from the first stop, along the line.
    at: f64,
    /// Metres to the east and to the north of the centre.
    east: f64,
    north: f64,
}

/// A line, with its stops in order. It has two at least.
#[derive(Debug, Clone)]
struct Line {
    name: String,
    stops: Vec<Stop>,
}

impl Line {
    fn new(number: usize, lines: usize, random: &mut Random) -> Self {
        let angle = std::f64::consts::PI * (number as f64 / lines as f64) + random.between(-0.1, 0.1);
        let reach = random.between(3500.0, 7000.0);
        let (mut east, mut north) = (-reach * angle.cos(), -reach * angle.sin());
        // Beside the centre, so that not all lines meet in a point.
        let aside = random.between(-400.0, 400.0);
        east += aside * angle.sin();
        north -= aside * angle.cos();
        let mut stops: Vec<Stop> = Vec::new();
        let (mut at, mut bend) = (0.0, 0.0);
        while at < 2.0 * reach {
            let mut name = String::new();
            while name.is_empty() || stops.iter().any(|stop| stop.name == name) {
                let words = [random.one_of(&FIRST), random.one_of(&SECOND)];
                name = words.map(Option::unwrap_or_default).join(" ");
            }
            stops.push(Stop {
                name,
                at,
                east,
                north,
            });
            let far = random.between(380.0, 720.0);
            // Streets bend, and lead back to their direction.
            bend = 0.6 * bend + random.between(-0.35, 0.35);
            at += far;
            east += far * (angle + bend).cos();
            north += far * (angle + bend).sin();
        }
        Self {
            name: (number + 1).to_string(),
            stops,
        }
    }

    /// The stop behind which a place is, and the one before which: those of its segment.
    fn segment(&self, at: f64) -> Option<(&Stop, &Stop)> {
        let pairs = self.stops.iter().zip(self.stops.iter().skip(1));
        let mut pairs = pairs.filter(|(from, _)| from.at <= at);
        pairs.next_back()
    }

    /// How near to the centre a stop is: 0 at the ends, 1 in the middle.
    fn closeness(&self, stop: usize) -> f64 {
        let middle = (self.stops.len().saturating_sub(1)) as f64 / 2.0;
        1.0 - ((stop as f64 - middle) / middle).abs()
    }
}

/// The activity of a vehicle.
#[derive(Debug, Clone, Copy, PartialEq)]
enum VehicleState {
    /// It drives to the next stop.
    Driving,
    /// It waits at a stop, for this many seconds more.
    Waiting(f64),
    /// It charges at the end of its line.
    Charging,
    /// It is in the depot, for so many seconds more.
    Away(f64),
}

#[derive(Debug, Clone)]
struct Vehicle {
    name: String,
    is_tram: bool,
    /// Index of its line.
    line: usize,
    state: VehicleState,
    /// Index of the stop where it waits, or to which it drives.
    stop: usize,
    /// Whether it drives to the last stop of the line, or back to the first.
    is_outbound: bool,
    /// Metres from the first stop.
    at: f64,
    /// In m/s.
    speed: f64,
    /// Percent.
    occupancy: f64,
    battery: f64,
    /// Seconds behind the timetable.
    delay: f64,
    /// The part of its usual speed that traffic allows.
    flow: f64,
    random: Random,
}

/// A vehicle as its record shows it; the key is its name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    line: String,
    kind: &'static str,
    status: &'static str,
    /// The stop where it is, or the next one.
    stop: String,
    /// Its destination.
    towards: String,
    latitude: f64,
    longitude: f64,
    /// In km/h.
    speed: f64,
    /// In degrees from the north, clockwise.
    heading: i64,
    /// In percent.
    occupancy: i64,
    /// In percent; a tram has none.
    battery: Option<i64>,
    /// In seconds behind the timetable.
    delay: i64,
}

/// All vehicles.
#[derive(Debug, Clone)]
pub(super) struct Fleet {
    lines: Vec<Line>,
    vehicles: Vec<Vehicle>,
}

impl Fleet {
    /// So many vehicles, all of them on their way. Equal seeds make equal fleets.
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let all = TRAM_LINES + BUS_LINES;
        let lines: Vec<Line> = (0..all)
            .map(|number| Line::new(number, all, &mut random))
            .collect();
        let vehicles = (0..count).map(|index| {
            let line = index % all;
            let is_tram = line < TRAM_LINES;
            let kind = if is_tram { "tram" } else { "bus" };
            let mut random = Random(random.next());
            let stops = lines.get(line).map_or(0, |line| line.stops.len());
            let stop = 1 + usize::try_from(random.next()).unwrap_or(0) % stops.saturating_sub(1).max(1);
            let at = lines
                .get(line)
                .and_then(|line| line.stops.get(stop - 1))
                .map_or(0.0, |stop| stop.at);
            Vehicle {
                name: format!("{kind}-{:03}", index + 1),
                is_tram,
                line,
                state: VehicleState::Driving,
                stop,
                is_outbound: true,
                at,
                speed: 0.0,
                occupancy: random.between(5.0, 60.0),
                battery: random.between(LOW, FULL),
                delay: random.between(-30.0, 200.0),
                flow: random.between(0.6, 1.0),
                random,
            }
        });
        let vehicles = vehicles.collect();
        Self { lines, vehicles }
    }

    pub(super) fn len(&self) -> usize {
        self.vehicles.len()
    }

    /// Lets a vehicle go on for so many seconds. Returns its name and what to show of it: nothing while it is in the depot.
    pub(super) fn step(&mut self, index: usize, seconds: f64) -> Option<(&str, Option<Report>)> {
        let vehicle = self.vehicles.get_mut(index)?;
        let line = self.lines.get(vehicle.line)?;
        let mut left = seconds.clamp(0.0, LONGEST);
        while left > 0.0 {
            let now = left.min(STEP);
            vehicle.go_on(line, now);
            left -= now;
        }
        Some((&vehicle.name, vehicle.report(line)))
    }
}

impl Vehicle {
    fn go_on(&mut self, line: &Line, seconds: f64) {
        match self.state {
            VehicleState::Driving => self.drive(line, seconds),
            VehicleState::Waiting(left) if left > seconds => {
                self.state = VehicleState::Waiting(left - seconds);
            }
            VehicleState::Waiting(_) => self.leave(line),
            VehicleState::Charging => {
                self.battery += LOAD * seconds;
                if self.battery >= FULL {
                    self.leave(line);
                }
            }
            VehicleState::Away(left) if left > seconds => self.state = VehicleState::Away(left - seconds),
            VehicleState::Away(_) => {
                self.battery = FULL;
                self.delay = 0.0;
                self.leave(line);
            }
        }
    }

    fn drive(&mut self, line: &Line, seconds: f64) {
        let Some(target) = line.stops.get(self.stop).map(|stop| stop.at) else {
            return;
        };
        self.flow = (self.flow + self.random.between(-0.04, 0.04)).clamp(0.35, 1.0);
        // Late where traffic is slow, and in time again where it is not.
        self.delay = (self.delay + (0.72 - self.flow) * seconds).clamp(-60.0, 600.0);
        let usual = if self.is_tram { 15.0 } else { 12.5 };
        let ahead = (target - self.at).abs();
        // As fast as it can still brake before the stop.
        let most = (usual * self.flow).min((2.0 * ACCELERATION * ahead).sqrt());
        self.speed = (self.speed + ACCELERATION * seconds).min(most);
        let moved = (self.speed * seconds).min(ahead);
        self.at += if self.is_outbound { moved } else { -moved };
        if !self.is_tram {
            self.battery = (self.battery - USE * moved).max(1.0);
        }
        if ahead - moved < 1.0 {
            self.at = target;
            self.arrive(line);
        }
    }

    fn is_at_the_end(&self, line: &Line) -> bool {
        let last = line.stops.len().saturating_sub(1);
        self.stop == if self.is_outbound { last } else { 0 }
    }

    fn arrive(&mut self, line: &Line) {
        self.speed = 0.0;
        if !self.is_at_the_end(line) {
            let leaving = self.occupancy * self.random.between(0.08, 0.35);
            let busy = 4.0 + 18.0 * line.closeness(self.stop);
            let coming = self.random.between(0.0, busy);
            self.occupancy = (self.occupancy - leaving + coming).clamp(0.0, 100.0);
            self.state = VehicleState::Waiting(8.0 + 0.4 * (leaving + coming));
            return;
        }
        self.occupancy = 0.0;
        self.delay *= 0.3;
        self.state = if self.random.between(0.0, 1.0) < 0.05 {
            VehicleState::Away(self.random.between(40.0, 160.0))
        } else if !self.is_tram && self.battery < LOW {
            VehicleState::Charging
        } else {
            VehicleState::Waiting(self.random.between(20.0, 60.0))
        };
    }

    /// Drives to the next stop, at the end of the line in the other direction.
    fn leave(&mut self, line: &Line) {
        if self.is_at_the_end(line) {
            self.is_outbound = !self.is_outbound;
        }
        self.stop = if self.is_outbound {
            self.stop + 1
        } else {
            self.stop.saturating_sub(1)
        };
        self.state = VehicleState::Driving;
    }

    fn report(&self, line: &Line) -> Option<Report> {
        let status = match self.state {
            VehicleState::Away(_) => return None,
            VehicleState::Charging => "charging",
            _ if self.delay > DELAYED => "delayed",
            VehicleState::Waiting(_) => "at stop",
            VehicleState::Driving => "moving",
        };
        let (from, to) = line.segment(self.at)?;
        let part = ((self.at - from.at) / (to.at - from.at)).clamp(0.0, 1.0);
        let (along_east, along_north) = (to.east - from.east, to.north - from.north);
        let (latitude, longitude) = CENTRE;
        let way = if self.is_outbound { 1.0 } else { -1.0 };
        let heading = (way * along_east).atan2(way * along_north).to_degrees();
        let end = if self.is_outbound {
            line.stops.last()
        } else {
            line.stops.first()
        };
        Some(Report {
            line: line.name.clone(),
            kind: if self.is_tram { "tram" } else { "bus" },
            status,
            stop: line.stops.get(self.stop)?.name.clone(),
            towards: end?.name.clone(),
            latitude: rounded(latitude + (from.north + part * along_north) / DEGREE, 1e5),
            longitude: rounded(
                longitude + (from.east + part * along_east) / (DEGREE * latitude.to_radians().cos()),
                1e5,
            ),
            speed: rounded(self.speed * 3.6, 10.0),
            heading: whole(heading.rem_euclid(360.0)) % 360,
            occupancy: whole(self.occupancy),
            battery: (!self.is_tram).then(|| whole(self.battery)),
            delay: whole(self.delay),
        })
    }
}

/// A number with so many parts of one.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "degrees, percents and seconds of a few hundred"
)]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// All reports of a fleet, as of every third second for so many rounds.
    fn watch(fleet: &mut Fleet, rounds: usize) -> BTreeMap<String, Vec<Option<Report>>> {
        let mut seen: BTreeMap<String, Vec<Option<Report>>> = BTreeMap::new();
        for _ in 0..rounds {
            for index in 0..fleet.len() {
                let (name, report) = fleet.step(index, 3.0).expect("a vehicle");
                seen.entry(name.to_owned()).or_default().push(report);
            }
        }
        seen
    }

    #[test]
    fn equal_seeds_make_equal_fleets_and_others_do_not() {
        let seen = |seed| watch(&mut Fleet::new(40, seed), 20);
        assert_eq!(seen(1), seen(1));
        assert_ne!(seen(1), seen(2));
    }

    #[test]
    fn what_happens_does_not_depend_on_how_often_it_is_shown() {
        let (mut often, mut seldom) = (Fleet::new(12, 7), Fleet::new(12, 7));
        for index in 0..12 {
            for _ in 0..20 {
                often.step(index, 1.0);
            }
            assert_eq!(often.step(index, 0.0), {
                seldom.step(index, 20.0);
                seldom.step(index, 0.0)
            });
        }
    }

    #[test]
    fn vehicles_move_as_vehicles_do() {
        // An hour and a half of it.
        let seen = watch(&mut Fleet::new(120, 3), 1800);
        assert_eq!(seen.len(), 120, "names differ");
        let (mut statuses, mut lines) = (BTreeSet::new(), BTreeSet::new());
        let mut absences = 0;
        for (name, reports) in &seen {
            let mut places = BTreeSet::new();
            for pair in reports.windows(2) {
                let [before, Some(report)] = pair else {
                    absences += 1;
                    continue;
                };
                statuses.insert(report.status);
                lines.insert(report.line.clone());
                places.insert(report.stop.clone());
                assert!((0.0..=54.0).contains(&report.speed), "{name}: {report:?}");
                assert!((0..360).contains(&report.heading), "{name}: {report:?}");
                assert!((0..=100).contains(&report.occupancy), "{name}: {report:?}");
                assert_eq!(report.battery.is_none(), report.kind == "tram", "{name}");
                assert!(report.battery.is_none_or(|percent| (1..=100).contains(&percent)));
                let Some(before) = before else { continue };
                let north = (report.latitude - before.latitude) * DEGREE;
                let east = (report.longitude - before.longitude) * DEGREE * CENTRE.0.to_radians().cos();
                let moved = north.hypot(east);
                assert!(moved <= 3.0 * 15.0 + 3.0, "{name}: {moved} m in 3 s");
                if report.status == "charging" {
                    assert!(report.speed == 0.0, "{name}: {report:?}");
                }
            }
            assert!(places.len() > 8, "{name} was at {places:?}");
        }
        assert_eq!(lines.len(), TRAM_LINES + BUS_LINES);
        assert_eq!(
            statuses,
            BTreeSet::from(["at stop", "charging", "delayed", "moving"])
        );
        assert!(absences > 0, "some were in the depot");
    }
}
