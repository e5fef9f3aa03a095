//! dm-multipath on Debian's stock kernels over two portals: one is cut off under I/O, the target behind the other is killed, the
//! volume grows, and no block is wrong.

use std::io::copy;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_e2e::{Appliance, Guest, Kernel, Plane};
use serde_json::json;

/// A bound for a hung guest; a path that is cut off takes it some seconds.
const LIMIT: Duration = Duration::from_secs(900);
const SIZE_MIB: u64 = 128;
const GROWN_MIB: u64 = 192;

#[test]
fn two_paths_on_6_1_survive_the_loss_of_one_and_a_kill_of_the_target() -> Result<()> {
    survives(Kernel::V6_1)
}

#[test]
fn two_paths_on_6_12_survive_the_loss_of_one_and_a_kill_of_the_target() -> Result<()> {
    survives(Kernel::V6_12)
}

/// A second way to a portal, which can be cut.
struct Detour {
    port: u16,
    cut: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Detour {
    fn to(target: u16) -> Result<Detour> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let cut = Arc::new(AtomicBool::new(false));
        let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (is_cut, open) = (Arc::clone(&cut), Arc::clone(&streams));
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if is_cut.load(Ordering::Acquire) {
                    return;
                }
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
                let ends = [(near.try_clone(), far.try_clone()), (far.try_clone(), near.try_clone())];
                open.lock().unwrap_or_else(PoisonError::into_inner).extend([near, far]);
                for end in ends {
                    if let (Ok(mut from), Ok(mut to)) = end {
                        thread::spawn(move || {
                            // Either end may go at any time, and takes the other along.
                            let _moved = copy(&mut from, &mut to);
                            let _gone = to.shutdown(Shutdown::Both);
                        });
                    }
                }
            }
        });
        Ok(Detour { port, cut, streams })
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may have gone before.
            let _gone = stream.shutdown(Shutdown::Both);
        }
        // Ends the listener.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

fn survives(kernel: Kernel) -> Result<()> {
    let name = format!("iscsi_paths_{}", kernel.series());
    let appliance = Appliance::start(&name)?;
    appliance.share("disk", SIZE_MIB, 4096)?;
    appliance.rest().patch("/subsystems/disk", &json!({"allow_any_host": true}))?;
    let detour = Detour::to(appliance.iscsi_port())?;
    let mut guest = Guest::builder(kernel, &name, "iscsi_paths.sh")
        .limit(LIMIT)
        .variable("PORT", appliance.iscsi_port())
        .variable("OTHER_PORT", detour.port)
        .variable("IQN", "iqn.2026-11.io.holdfast:disk")
        .variable("INITIATOR", format!("iqn.2026-11.io.example:{}", kernel.series()))
        .variable("GROWN_SECTORS", GROWN_MIB << 11)
        .start()?;
    guest.wait_phase("both_work")?;
    detour.cut();
    guest.go_on()?;
    guest.wait_phase("one_is_cut")?;
    appliance.kill(Plane::Data)?;
    guest.go_on()?;
    guest.wait_phase("target_was_killed")?;
    appliance.rest().patch("/volumes/disk", &json!({"size_bytes": GROWN_MIB << 20}))?;
    guest.go_on()?;
    let results = guest.finish()?;
    ensure!(results.number("same_name")? == 1, "both paths lead to one disk");
    ensure!(results.number("failed_paths")? == 1, "one path is lost");
    ensure!(results.number("size")? == GROWN_MIB << 11);
    ensure!(results.number("rounds")? > 10);
    ensure!(appliance.rest().items("/incidents")?.is_empty(), "nobody is to be accused");
    appliance.stop()
}
