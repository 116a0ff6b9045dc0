//! T-60: real processes under contention, some of them killed with SIGKILL, take exactly the capacity.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sallyport_buckets::{Table, Take};

/// Long enough that no slot leaves while the test runs.
const WINDOW_MS: f64 = 3_600_000.0;
const DEADLINE: Duration = Duration::from_secs(60);

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let base = Path::new("/dev/shm");
        let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
        let directory = base.join(format!("sallyport-processes-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Scratch(directory)
    }

    fn table(&self) -> PathBuf {
        self.0.join("table")
    }

    /// Bytes in the children's logs: one for each event that was admitted.
    fn admitted(&self) -> u64 {
        std::fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("log-"))
            .map(|entry| entry.metadata().unwrap().len())
            .sum()
    }

    /// This very program again, running only `child_that_takes`.
    fn spawn(&self, number: usize, keys: usize, capacity: u64) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_takes", "--nocapture"])
            .env("SALLYPORT_BUCKETS_CHILD", &self.0)
            .env("SALLYPORT_BUCKETS_WORK", format!("{number} {keys} {capacity}"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Takes from all keys in turn until each is used up, noting every admission before the next take.
#[test]
fn child_that_takes() {
    let Some(directory) = std::env::var_os("SALLYPORT_BUCKETS_CHILD") else { return };
    let work = std::env::var("SALLYPORT_BUCKETS_WORK").unwrap();
    let mut work = work.split(' ').map(|number| number.parse::<u64>().unwrap());
    let mut next = || work.next().unwrap();
    let (number, keys, capacity) = (next(), next(), next());
    let directory = Path::new(&directory);
    let table = Table::open(&directory.join("table")).unwrap();
    let mut log: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join(format!("log-{number}")))
        .unwrap();
    loop {
        let mut refused = 0;
        for key in 0..keys {
            match table.take(format!("key {key}").as_bytes(), capacity, WINDOW_MS).unwrap() {
                Take::Admitted { .. } => log.write_all(b".").unwrap(),
                Take::Refused { .. } => refused += 1,
            }
        }
        if refused == keys {
            return;
        }
    }
}

fn wait_for(children: Vec<Child>) {
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn four_processes_admit_exactly_the_capacity_of_every_key() {
    let scratch = Scratch::new("exact");
    let (keys, capacity) = (50, 400);
    let table = Table::create(&scratch.table(), 1024).unwrap();
    wait_for((0..4).map(|number| scratch.spawn(number, keys, capacity)).collect());
    assert_eq!(scratch.admitted(), keys as u64 * capacity);
    assert_eq!(table.summary().evictions, 0);
}

#[test]
fn kill_minus_nine_under_contention_never_admits_more_and_loses_at_most_one_event_each() {
    let scratch = Scratch::new("killed");
    let capacity = 1_500_000;
    let table = Table::create(&scratch.table(), 64).unwrap();
    let mut children: Vec<Child> =
        (0..4).map(|number| scratch.spawn(number, 1, capacity)).collect();
    let start = Instant::now();
    let mut kills = 0;
    let mut next = 4;
    while kills < 24 && scratch.admitted() < capacity * 4 / 5 {
        assert!(start.elapsed() < DEADLINE, "{kills} kills, {} admitted", scratch.admitted());
        std::thread::sleep(Duration::from_millis(8));
        let mut victim = children.remove(0);
        victim.kill().unwrap(); // SIGKILL
        let status = victim.wait().unwrap();
        if !status.success() {
            kills += 1;
        }
        children.push(scratch.spawn(next, 1, capacity));
        next += 1;
    }
    wait_for(children);
    assert!(kills >= 5, "only {kills} processes were killed at work");
    let admitted = scratch.admitted();
    println!("{kills} killed, {admitted} of {capacity} used, {:?}", table.summary());
    assert!(admitted <= capacity, "{admitted} of {capacity}");
    // A process killed between taking and using an event has lost that one event.
    assert!(admitted + kills >= capacity, "{admitted} of {capacity} with {kills} kills");
    let refused = table.take(b"key 0", capacity, WINDOW_MS).unwrap();
    assert!(matches!(refused, Take::Refused { .. }));
}
