//! Reservations that outlast a restart: one file for each volume that has any, written and flushed before whoever asked for the
//! change is answered. A thread of its own writes them; cores only send orders and take note of their ends.
//!
//! A file holds what the block layer gives, which tells by itself whether it is whole. One that is not, or cannot be read,
//! means that reservations were lost, and hosts are told so (SPC-4 §5.13.5.3 "Lost reservations").

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use holdfast_block::reservations::{KEPT_LEN_MAX, Reservations};
use holdfast_block::{KeepOrder, VolumeId};
use holdfast_reactor::MailSender;

use crate::core::Mail;
use crate::files;

/// The folder of the files, in the state folder.
const FOLDER: &str = "reservations";
/// What their names end with.
const SUFFIX: &str = "pr";
/// Pause before an answer is sent again to a core whose mailbox is full.
const MAILBOX_FULL: Duration = Duration::from_millis(1);

/// The files.
#[derive(Debug)]
pub(crate) struct Kept {
    folder: PathBuf,
    /// Volumes that have one.
    volumes: BTreeSet<VolumeId>,
}

/// Something for the thread to do.
enum Work {
    /// Carry out an order of a core.
    Keep(usize, KeepOrder),
    /// Tell what is kept of a volume.
    Load(VolumeId, SyncSender<Option<Reservations>>),
    /// Keep nothing of a volume.
    Forget(VolumeId),
    /// Keep nothing of others than these.
    Retain(BTreeSet<VolumeId>),
}

/// The way to the thread. What one sends is done in its order.
#[derive(Debug, Clone)]
pub(crate) struct ReservationKeeper(Sender<Work>);

/// The thread's end.
pub(crate) struct KeeperOrders(Receiver<Work>);

/// A way to the thread that keeps reservations, and that thread's end of it.
pub(crate) fn keeper() -> (ReservationKeeper, KeeperOrders) {
    let (sender, receiver) = channel();
    (ReservationKeeper(sender), KeeperOrders(receiver))
}

impl ReservationKeeper {
    /// Has an order carried out, whose end comes to the core as mail; `false`: nobody does.
    pub(crate) fn keep(&self, core: usize, order: KeepOrder) -> bool {
        self.0.send(Work::Keep(core, order)).is_ok()
    }

    /// What is kept of a volume; `None`: nothing.
    pub(crate) fn load(&self, volume: VolumeId) -> Option<Reservations> {
        let (answer, answered) = sync_channel(1);
        self.0.send(Work::Load(volume, answer)).ok()?;
        answered.recv().ok()?
    }

    /// Keeps nothing of a volume that is gone.
    pub(crate) fn forget(&self, volume: VolumeId) {
        self.tell(Work::Forget(volume));
    }

    /// Keeps nothing of volumes that are not among these.
    pub(crate) fn retain(&self, volumes: BTreeSet<VolumeId>) {
        self.tell(Work::Retain(volumes));
    }

    fn tell(&self, work: Work) {
        if self.0.send(work).is_err() {
            tracing::error!("nobody keeps reservations any more");
        }
    }
}

impl KeeperOrders {
    /// Carries out orders until nobody is left to give any. `cores`: where answers go, by number.
    pub(crate) fn serve(self, mut kept: Kept, mut cores: Vec<MailSender<Mail>>) {
        while let Ok(work) = self.0.recv() {
            if let Some((core, mail)) = kept.carry_out(work)
                && let Some(core) = cores.get_mut(core)
            {
                deliver(core, mail);
            }
        }
    }
}

impl Kept {
    /// The files in a state folder.
    pub(crate) fn open(state: &Path) -> io::Result<Kept> {
        let folder = state.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let mut volumes = BTreeSet::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if let Some(volume) = volume_of(&path) {
                volumes.insert(volume);
            } else if path.extension().is_some_and(|end| end == "new") {
                // What a crash left of a write that nobody was told of.
                fs::remove_file(&path)?;
            }
        }
        Ok(Kept { folder, volumes })
    }

    fn carry_out(&mut self, work: Work) -> Option<(usize, Mail)> {
        match work {
            Work::Keep(core, KeepOrder { volume, number, value }) => {
                let done = match value {
                    Some(value) => self.write(volume, &value),
                    None => self.remove(volume),
                };
                if let Err(error) = &done {
                    tracing::error!(%volume, %error, "cannot write the volume's reservations down");
                }
                return Some((core, Mail::Kept { volume, number, done: done.is_ok() }));
            }
            Work::Load(volume, answer) => {
                // Nobody waits any more only if the target stops.
                let _unheard = answer.send(self.load(volume));
            }
            Work::Forget(volume) => self.forget(volume),
            Work::Retain(stay) => {
                let gone: Vec<_> = self.volumes.difference(&stay).copied().collect();
                gone.into_iter().for_each(|volume| self.forget(volume));
            }
        }
        None
    }

    fn load(&self, volume: VolumeId) -> Option<Reservations> {
        if !self.volumes.contains(&volume) {
            return None;
        }
        let read = read_bounded(&self.path(volume)).map_err(|error| error.to_string());
        let restored = read.and_then(|kept| Reservations::restore(&kept).map_err(|error| error.to_string()));
        Some(restored.unwrap_or_else(|error| {
            tracing::error!(%volume, error, "the volume's reservations are lost: a host has to replace them");
            Reservations::lost()
        }))
    }

    fn write(&mut self, volume: VolumeId, value: &[u8]) -> io::Result<()> {
        files::replace(&self.path(volume), &[value])?;
        self.volumes.insert(volume);
        Ok(())
    }

    fn remove(&mut self, volume: VolumeId) -> io::Result<()> {
        if !self.volumes.contains(&volume) {
            return Ok(());
        }
        match fs::remove_file(self.path(volume)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::File::open(&self.folder)?.sync_all()?;
        self.volumes.remove(&volume);
        Ok(())
    }

    fn forget(&mut self, volume: VolumeId) {
        if let Err(error) = self.remove(volume) {
            tracing::error!(%volume, %error, "cannot drop the reservations of a volume that is gone");
        }
    }

    fn path(&self, volume: VolumeId) -> PathBuf {
        self.folder.join(format!("{volume}.{SUFFIX}"))
    }
}

/// One byte more than any file can hold at most, so that a longer one is not taken for it.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let limit = u64::try_from(KEPT_LEN_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut kept = Vec::new();
    fs::File::open(path)?.take(limit).read_to_end(&mut kept)?;
    Ok(kept)
}

fn volume_of(path: &Path) -> Option<VolumeId> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_suffix(SUFFIX)?.strip_suffix('.').filter(|digits| digits.len() == 16)?;
    VolumeId::new(u64::from_str_radix(digits, 16).ok()?)
}

fn deliver(core: &mut MailSender<Mail>, mut mail: Mail) {
    while let Err(back) = core.send(mail) {
        if core.is_closed() {
            return;
        }
        mail = back;
        std::thread::sleep(MAILBOX_FULL);
    }
}

#[cfg(test)]
mod tests {
    use holdfast_block::SubsystemId;
    use holdfast_block::reservations::{
        InitiatorPort, Keep, Key, Nexus, Reach, Request, ReservationType, TargetPort,
    };

    use super::*;

    fn volume(number: u64) -> VolumeId {
        VolumeId::new(number).unwrap()
    }

    fn nexus() -> Nexus {
        let target = TargetPort { subsystem: SubsystemId::new(1).unwrap(), relative: 1 };
        Nexus::Scsi { initiator: InitiatorPort::new("iqn.2026-11.example:a", [1; 6]).unwrap(), target }
    }

    /// A reservation that lasts, and what is to be kept of it.
    fn held() -> (Reservations, Vec<u8>) {
        let key = Key::new(5);
        let register =
            Request::Register { key: None, new: key, lasting: Some(true), reach: Reach::default() };
        let reserve = Request::Reserve { key, kind: ReservationType::WriteExclusive };
        let registered = Reservations::default().decide(&nexus(), &register).unwrap().next;
        let change = registered.decide(&nexus(), &reserve).unwrap();
        let Keep::Value(value) = change.keep else { panic!("it lasts") };
        (change.next, value)
    }

    fn keep(kept: &mut Kept, number: u64, value: Option<Vec<u8>>) -> bool {
        let order = KeepOrder { volume: volume(number), number: 7, value };
        match kept.carry_out(Work::Keep(3, order)) {
            Some((3, Mail::Kept { volume: of, number: 7, done })) if of == volume(number) => done,
            _ => panic!("another answer"),
        }
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (state, value) = held();
        let mut kept = Kept::open(folder.path()).unwrap();
        assert_eq!(kept.load(volume(1)), None);
        assert!(keep(&mut kept, 1, Some(vec![1, 2, 3])));
        assert!(keep(&mut kept, 1, Some(value.clone())));
        assert!(keep(&mut kept, 2, Some(value)));
        fs::write(folder.path().join("reservations/0000000000000001.new"), b"cut off").unwrap();
        let mut again = Kept::open(folder.path()).unwrap();
        let restored = again.load(volume(1)).unwrap();
        assert_eq!(restored.key_of(&nexus()), Key::new(5));
        assert_eq!(restored.standing(&nexus()), state.standing(&nexus()));
        assert!(keep(&mut again, 1, None) && keep(&mut again, 9, None));
        assert_eq!(again.load(volume(1)), None);
        again.carry_out(Work::Retain(BTreeSet::from([volume(3)])));
        assert_eq!(Kept::open(folder.path()).unwrap().volumes, BTreeSet::new());
        assert_eq!(fs::read_dir(folder.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn damaged_files_mean_that_reservations_were_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (_, value) = held();
        let mut kept = Kept::open(folder.path()).unwrap();
        let wrongs = [vec![], value[1..].to_vec(), vec![0; KEPT_LEN_MAX + 1], [&value[..], &[0]].concat()];
        for wrong in wrongs {
            assert!(keep(&mut kept, 1, Some(wrong)));
            assert_eq!(Kept::open(folder.path()).unwrap().load(volume(1)), Some(Reservations::lost()));
        }
        fs::remove_file(kept.path(volume(1))).unwrap();
        assert_eq!(kept.load(volume(1)), Some(Reservations::lost()), "it was there");
    }

    #[test]
    fn what_cannot_be_written_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(folder.path()).unwrap();
        fs::remove_dir(folder.path().join(FOLDER)).unwrap();
        assert!(!keep(&mut kept, 1, Some(vec![1])));
        assert_eq!(kept.load(volume(1)), None);
    }

    #[test]
    fn orders_are_carried_out_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let (keeper, orders) = keeper();
        let kept = Kept::open(folder.path()).unwrap();
        let thread = std::thread::spawn(move || orders.serve(kept, Vec::new()));
        let (state, value) = held();
        let order = KeepOrder { volume: volume(1), number: 1, value: Some(value) };
        assert!(keeper.keep(0, order.clone()));
        assert_eq!(keeper.load(volume(1)).map(|kept| kept.key_of(&nexus())), Some(state.key_of(&nexus())));
        keeper.forget(volume(1));
        assert_eq!(keeper.load(volume(1)), None);
        assert!(keeper.keep(0, order));
        keeper.retain(BTreeSet::new());
        assert_eq!(keeper.load(volume(1)), None);
        drop(keeper);
        thread.join().unwrap();
    }
}
