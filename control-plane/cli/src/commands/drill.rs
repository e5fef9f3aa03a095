//! `holdfast drill`.

use clap::Subcommand;

use super::Run;
use super::session::{Session, body, path};
use crate::client::{ClientError, Method, Purpose};

const FLAGS: [(&str, &str); 4] =
    [("/volume", "VOLUME"), ("/lba", "--lba"), ("/stage", "--stage"), ("/bit", "--bit")];

/// What can be done with drills.
#[derive(Debug, Subcommand)]
pub(crate) enum DrillCommand {
    /// Flip one bit of a block on purpose; only with `holdfast up --enable-drills`
    #[command(after_help = "\
Examples:
  holdfast drill create v1 --lba 8 --stage media --bit 0
  holdfast drill create v1 --lba 8 --stage target-memory --bit 32768    # the tuple's first bit, blocks of 4096")]
    Create {
        /// The volume
        volume: String,
        /// The block
        #[arg(long)]
        lba: u64,
        /// `media`: beneath the store's checksum, at once; `target-memory`: in the block's next write, after it was checked
        #[arg(long)]
        stage: String,
        /// Which bit: below 8 × block size one of the data, beyond one of the tuple
        #[arg(long)]
        bit: u32,
    },
    /// Show a drill
    #[command(after_help = "Example:\n  holdfast drill show 0123456789abcdef")]
    Show {
        /// Its identifier
        id: String,
    },
}

impl Run for DrillCommand {
    fn run(self, session: &mut Session) -> Result<(), ClientError> {
        match self {
            Self::Create { volume, lba, stage, bit } => {
                let purpose = Purpose::new("drill create", format!("drill volume {volume}"));
                let drill = body([
                    ("volume", Some(volume.into())),
                    ("lba", Some(lba.into())),
                    ("stage", Some(stage.into())),
                    ("bit", Some(bit.into())),
                ]);
                session.send(&purpose.with_flags(&FLAGS), Method::Post, &path(&["drills"]), Some(drill))
            }
            Self::Show { id } => {
                session.show(&Purpose::new("drill show", format!("show drill {id}")), &path(&["drills", &id]))
            }
        }
    }
}
