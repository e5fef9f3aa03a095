//! The cells of the table: which host does what, over which wire, under which policy.

use std::fmt;

use holdfast_e2e::Kernel;

/// An enum whose values are words, in the guest's script, in `tests/expected/policies.toml` and in the table.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $name { $($(#[$value_doc])* $value,)+ }

        impl $name {
            pub(crate) const ALL: &[$name] = &[$($name::$value,)+];

            pub(crate) const fn word(self) -> &'static str {
                match self { $($name::$value => $word,)+ }
            }

            pub(crate) fn of(word: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|value| value.word() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.pad(self.word())
            }
        }
    };
}

words! {
    /// The host's kernel, with all patches for it.
    System { V6_12 = "6.12", V6_1 = "6.1", }
}

words! {
    /// What carries the commands.
    Transport { Nvme = "nvme", Iscsi = "iscsi", }
}

words! {
    /// A value of `integrity/write_policy`.
    Policy {
        NoWait = "no-wait",
        StablePages = "stable-pages",
        BounceDirect = "bounce-direct",
        Bounce = "bounce",
        DirectIoOnly = "direct-io-only",
        None = "none",
    }
}

words! {
    /// What the volume is used as.
    FileSystem {
        Ext4 = "ext4",
        Ext4WithoutJournal = "ext4-without-journal",
        Xfs = "xfs",
        Btrfs = "btrfs",
        /// The block device itself.
        Raw = "raw",
    }
}

words! {
    /// What `wac` does: its combinations of 2011, and two more.
    Load {
        A = "A",
        B = "B",
        C = "C",
        D = "D",
        E = "E",
        F = "F",
        /// The buffer of a direct write is changed while it is written.
        BufferChanged = "buffer-changed",
        /// Files are created, renamed and unlinked beside a loop of `syncfs`.
        Churn = "churn",
    }
}

impl System {
    /// The kernel to boot.
    pub(crate) fn kernel(self) -> Kernel {
        match self {
            System::V6_12 => Kernel::Patched6_12,
            System::V6_1 => Kernel::Patched6_1,
        }
    }
}

/// What stays the same as long as a guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Boot {
    pub(crate) system: System,
    pub(crate) transport: Transport,
}

/// One cell, within a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) file_system: FileSystem,
    pub(crate) load: Load,
    pub(crate) policy: Policy,
}

impl fmt::Display for Boot {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} over {}", self.system, self.transport)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} on {} under {}", self.load, self.file_system, self.policy)
    }
}

impl Boot {
    /// Every one that the table has.
    pub(crate) fn all() -> impl Iterator<Item = Boot> {
        System::ALL
            .iter()
            .flat_map(|&system| Transport::ALL.iter().map(move |&transport| Boot { system, transport }))
    }
}

impl Cell {
    /// Every one that the table has in one boot: those that can share a file system one after another.
    pub(crate) fn all() -> impl Iterator<Item = Cell> {
        let bases = FileSystem::ALL
            .iter()
            .flat_map(|&file_system| Policy::ALL.iter().map(move |&policy| (file_system, policy)));
        let cells = bases.flat_map(|(file_system, policy)| {
            Load::ALL.iter().map(move |&load| Cell { file_system, load, policy })
        });
        // There is no metadata on a raw device.
        cells.filter(|cell| (cell.file_system, cell.load) != (FileSystem::Raw, Load::Churn))
    }
}
