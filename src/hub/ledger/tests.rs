use std::cell::Cell;

use redb::ReadableTable;

use super::file::TEMP;
use super::*;
use crate::platform::files::lock_dir;

thread_local! {
    /// Rows read and checked.
    pub static DECODED: Cell<usize> = const { Cell::new(0) };
}

fn stored(ledger: &mut Ledger) -> Vec<(String, u64, u64)> {
    let mut found = Vec::new();
    let each = |host: &str, _: &HostRow, accounts: &[(u64, Account)]| {
        found.extend(accounts.iter().map(|(epoch, account)| (host.to_owned(), *epoch, account.seen.len())));
    };
    ledger.view().unwrap().each(each).unwrap();
    found
}

fn take(ledger: &mut Ledger, host: &str, epoch: u64, seqs: std::ops::RangeInclusive<u64>, position: &str) {
    let mut draft = ledger.draft().unwrap();
    draft.host(host).unwrap().hear("lab", Some(epoch), 1);
    draft.account(host, epoch).unwrap().take(seqs);
    draft.commit(position).unwrap();
}

#[test]
fn rows_and_position_are_there_after_a_restart_and_a_dropped_draft_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    assert_eq!(ledger.position().unwrap(), None);
    take(&mut ledger, "a", 7, 1..=5, "p1");
    take(&mut ledger, "b", 8, 1..=2, "p2");
    let mut draft = ledger.draft().unwrap();
    draft.account("a", 7).unwrap().take(6..=9);
    drop(draft);
    drop(ledger);
    let mut ledger = Ledger::open(dir.path()).unwrap();
    assert_eq!(ledger.position().unwrap(), Some("p2"));
    assert_eq!(stored(&mut ledger), [("a".to_owned(), 7, 5), ("b".to_owned(), 8, 2)]);
    assert_eq!(ledger.draft().unwrap().peek("a", 7).unwrap().unwrap().upto(), 5);
}

#[test]
fn two_do_not_share_a_ledger_and_a_reader_finds_it_in_use() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(View::open(dir.path()), Err(LedgerError::Absent(_))));
    let ledger = Ledger::open(dir.path()).unwrap();
    assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::InUse(_))));
    assert!(matches!(View::open(dir.path()), Err(LedgerError::InUse(_))));
    drop(ledger);
    assert!(View::open(dir.path()).is_ok());
}

#[test]
fn a_damaged_row_is_forgotten_and_costs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    take(&mut ledger, "a", 7, 1..=5, "p");
    take(&mut ledger, "a", 8, 1..=3, "p");
    drop(ledger);
    let db = Database::open(dir.path().join(LEDGER)).unwrap();
    let txn = db.begin_write().unwrap();
    let mut row = txn.open_table(EPOCHS).unwrap().get(("a", 7)).unwrap().unwrap().value().to_vec();
    row[8] ^= 1;
    txn.open_table(EPOCHS).unwrap().insert(("a", 7), row.as_slice()).unwrap();
    txn.commit().unwrap();
    drop(db);
    let mut ledger = Ledger::open(dir.path()).unwrap();
    assert_eq!(stored(&mut ledger), [("a".to_owned(), 8, 3)]);
    assert_eq!(ledger.draft().unwrap().account("a", 7).unwrap().upto(), 0, "nothing is vouched for");
}

#[test]
fn what_is_no_ledger_or_a_newer_one_is_left_alone_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    drop(Ledger::open(dir.path()).unwrap());
    let db = Database::open(dir.path().join(LEDGER)).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(FACTS).unwrap().insert(FACT_FORMAT, "2".as_bytes()).unwrap();
    txn.commit().unwrap();
    drop(db);
    assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::Newer(_, 2))));
    std::fs::write(dir.path().join(LEDGER), "not a database at all, but long enough for a header".repeat(20)).unwrap();
    let Err(error) = Ledger::open(dir.path()) else { panic!("it was opened") };
    assert!(error.to_string().contains("ledger"), "{error}");
}

#[test]
fn a_beginning_that_was_cut_short_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(TEMP), "half").unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    take(&mut ledger, "a", 7, 1..=1, "p");
    assert!(!dir.path().join(TEMP).exists());
}

#[test]
fn of_two_that_begin_at_once_one_has_the_ledger_and_the_other_is_told() {
    for round in 0..100 {
        let dir = tempfile::tempdir().unwrap();
        let ready = std::sync::Barrier::new(3);
        let open = || {
            ready.wait();
            let opened = Ledger::open(dir.path());
            ready.wait();
            opened
        };
        let opened =
            std::thread::scope(|scope| [(); 3].map(|()| scope.spawn(open)).map(|thread| thread.join().unwrap()));
        let (mut won, lost): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
        assert!(won.len() == 1 && lost.iter().all(|lost| matches!(lost, Err(LedgerError::InUse(_)))), "round {round}");
        let mut ledger = won.remove(0).unwrap_or_else(|error| panic!("{error}"));
        take(&mut ledger, "a", 7, 1..=3, "p");
        drop(ledger);
        assert_eq!(stored(&mut Ledger::open(dir.path()).unwrap()), [("a".to_owned(), 7, 3)], "round {round}");
    }
}

/// Half way, as it is for another process.
#[test]
fn who_comes_while_another_begins_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let begins = lock_dir(dir.path()).unwrap();
    std::fs::write(dir.path().join(TEMP), "being made").unwrap();
    assert!(matches!(Ledger::open(dir.path()), Err(LedgerError::InUse(_))));
    assert_eq!(std::fs::read(dir.path().join(TEMP)).unwrap(), b"being made");
    drop(begins);
    assert!(Ledger::open(dir.path()).is_ok());
}

/// The writer's thread has other hosts to serve.
#[test]
fn a_host_of_ever_new_epochs_costs_one_look_at_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let bring = |ledger: &mut Ledger, epoch: u64| {
        let mut draft = ledger.draft().unwrap();
        draft.host("a").unwrap().hear("lab", Some(epoch), 1);
        let account = draft.account("a", epoch).unwrap();
        account.take(1..=3);
        account.last_ms = epoch as i64;
        draft.commit("p").unwrap();
    };
    (1..=MAX_EPOCHS as u64).for_each(|epoch| bring(&mut ledger, epoch));
    drop(ledger);
    let mut ledger = Ledger::open(dir.path()).unwrap();
    DECODED.set(0);
    (100..400).for_each(|epoch| bring(&mut ledger, epoch));
    assert_eq!(DECODED.get(), MAX_EPOCHS + 1, "and at the host's");
    let forgot: Vec<_> = ledger.take_forgotten().into_iter().collect();
    assert_eq!(forgot, [(("a".to_owned(), Forgot::Epoch), 399 - MAX_EPOCHS as u64)]);
    let kept: Vec<_> = stored(&mut ledger).into_iter().map(|(_, epoch, _)| epoch).collect();
    assert_eq!(kept, (400 - MAX_EPOCHS as u64..400).collect::<Vec<_>>());
    // One draft that brings many is bounded all the same, and one that fails leaves nothing behind.
    let mut draft = ledger.draft().unwrap();
    (500..700).for_each(|epoch| draft.account("a", epoch).unwrap().last_ms = epoch as i64);
    drop(draft);
    let mut draft = ledger.draft().unwrap();
    (1000..1300).for_each(|epoch| draft.account("a", epoch).unwrap().last_ms = epoch as i64);
    draft.commit("p").unwrap();
    let kept: Vec<_> = stored(&mut ledger).into_iter().map(|(_, epoch, _)| epoch).collect();
    assert_eq!(kept, (1300 - MAX_EPOCHS as u64..1300).collect::<Vec<_>>());
}

/// One byte changed, at many places: whatever redb makes of it is an error, or costs a row.
#[test]
fn damage_is_an_error_or_costs_a_row_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    for host in ["a", "b", "c"] {
        for epoch in 1..=40 {
            take(&mut ledger, host, epoch, 1..=epoch, "p");
        }
    }
    drop(ledger);
    let path = dir.path().join(LEDGER);
    let sound = std::fs::read(&path).unwrap();
    let used: Vec<usize> = (0..sound.len()).filter(|at| sound[*at] != 0).collect();
    let mut refused = 0;
    for at in (0..used.len()).step_by(used.len() / 600 + 1).map(|n| used[n]) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x41;
        std::fs::write(&path, &bytes).unwrap();
        let work = || -> Result<(), LedgerError> {
            let mut ledger = Ledger::open(dir.path())?;
            ledger.view()?.each(|_, _, _| ())?;
            let mut draft = ledger.draft()?;
            draft.host("b")?.hear("lab", Some(99), 2);
            draft.account("b", 99)?.take(1..=9);
            draft.commit("q").map(drop)
        };
        let read = || View::open(dir.path())?.each(|_, _, _| ());
        for result in [read(), work()] {
            refused += usize::from(result.is_err());
            assert!(!matches!(result, Err(LedgerError::Io { .. })), "it would be tried again for ever: {result:?}");
        }
    }
    assert!(refused > 0, "no damage was met: this has tested nothing");
}
