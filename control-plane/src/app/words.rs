//! The API's words: closed sets, the same in bodies, answers, queries and the database.

use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

/// A text that is none of the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown word")]
pub struct UnknownWord;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$word_doc])* $variant,)+
        }

        impl $name {
            /// Every word.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord),
                }
            }
        }
    };
}

words! {
    /// How a host keeps pages still between checksum and transfer.
    Policy {
        /// No protection information from this host.
        None = "none",
        /// Writers wait for pages under writeback.
        StablePages = "stable-pages",
        /// Every page is copied first.
        Bounce = "bounce",
        /// Copies for direct writes, stable pages for the rest.
        BounceDirect = "bounce-direct",
        /// Writers are moved to a new page.
        ShadowPages = "shadow-pages",
        /// A guard error is answered with a new checksum.
        Retry = "retry",
        /// Protection information for direct I/O only.
        DirectIoOnly = "direct-io-only",
        /// The application supplies it.
        Application = "application",
        /// It is made, and nobody waits or copies.
        NoWait = "no-wait",
        /// Nobody has said.
        Unknown = "unknown",
    }
}

words! {
    /// What the target sees of a host's protection information.
    ObservedPolicy {
        /// Its volumes have none.
        None = "none",
        /// The target inserts and strips all of it.
        Inserted = "inserted",
        /// All of it is on the wire.
        EndToEnd = "end-to-end",
        /// Some of both.
        Mixed = "mixed",
        /// No I/O yet.
        Unknown = "unknown",
    }
}

words! {
    /// Who says what a host's policy is.
    Witness {
        /// Somebody said so.
        Declared = "declared",
        /// The host's agent said so.
        Reported = "reported",
        /// The target saw it.
        Observed = "observed",
    }
}

words! {
    /// What does not fit between the witnesses of a host's policy.
    AlarmKind {
        /// Declaration and report name different policies.
        ClaimsDiffer = "claims-differ",
        /// Tuples are claimed to come, and none does.
        NotSeen = "not-seen",
        /// No tuples are claimed to come, and some do.
        SeenUnclaimed = "seen-unclaimed",
        /// A policy that prevents guard errors is claimed, and the host causes some.
        GuardErrors = "guard-errors",
    }
}

words! {
    /// How volumes look to a host.
    View {
        /// With tuples where the host can send them or they are demanded.
        Auto = "auto",
        /// Blocks without tuples.
        Plain = "plain",
        /// Blocks with tuples on the wire.
        Pi = "pi",
    }
}

words! {
    /// What is demanded of a host's commands.
    Enforce {
        /// Nothing.
        Any = "any",
        /// Tuples on the wire with every Read, Write, Compare and Verify.
        RequirePi = "require-pi",
    }
}

words! {
    /// The guard of a volume's protection information.
    Guard {
        /// CRC-16/T10-DIF, 8-byte tuples.
        Crc16 = "crc16",
        /// CRC-32C, 16-byte tuples.
        Crc32c = "crc32c",
        /// CRC-64/NVME, 16-byte tuples.
        Crc64 = "crc64",
    }
}

words! {
    /// Whether a pool serves.
    Health {
        /// All is well.
        Ok = "ok",
        /// Serves, but something is wrong; or it is being opened, or the target cannot be asked.
        Degraded = "degraded",
        /// Does not serve.
        Failed = "failed",
    }
}

words! {
    /// Where on its way a bit is flipped.
    DrillStageWord {
        /// In the target's memory, in the block's next write, between the check and the store.
        TargetMemory = "target-memory",
        /// On the file or device, beneath the store's checksum.
        Media = "media",
    }
}

words! {
    /// How far a drill is.
    DrillState {
        /// It waits for the block's next write.
        Armed = "armed",
        /// The bit has been flipped.
        Done = "done",
    }
}

words! {
    /// Transports.
    Transport {
        /// NVMe over TCP.
        NvmeTcp = "nvme-tcp",
        /// iSCSI.
        Iscsi = "iscsi",
    }
}

words! {
    /// What a failed command was.
    Operation {
        /// Read.
        Read = "read",
        /// Write.
        Write = "write",
        /// Compare.
        Compare = "compare",
        /// Verify.
        Verify = "verify",
    }
}

words! {
    /// What did not match.
    Tag {
        /// The block's checksum.
        Guard = "guard",
        /// The application tag.
        App = "app",
        /// The reference tag.
        Ref = "ref",
        /// The storage tag.
        Storage = "storage",
        /// A PDU's data digest.
        Digest = "digest",
        /// The store's own checksum.
        Media = "media",
    }
}

words! {
    /// Whose fault an incident is.
    VerdictWord {
        /// The host changed a page after its checksum was computed.
        HostRace = "host-race",
        /// The host's memory flips bits.
        HostMemory = "host-memory",
        /// The network between host and target.
        Wire = "wire",
        /// The host sent a good block to the wrong address.
        Misdirected = "misdirected",
        /// The target itself.
        Target = "target",
        /// The medium under the store.
        Media = "media",
        /// Not known.
        Undetermined = "undetermined",
    }
}

words! {
    /// How sure a verdict is.
    ConfidenceWord {
        /// Little speaks for it.
        Low = "low",
        /// Much speaks for it.
        Medium = "medium",
        /// Nothing else fits.
        High = "high",
    }
}

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema;

    use super::*;

    /// Bodies, the document and the database have to agree on the words.
    fn check<T: FromStr + Serialize + PartialSchema>(words: &[&str]) {
        for word in words {
            let value: T = word.parse().ok().unwrap();
            assert_eq!(serde_json::to_value(value).unwrap(), *word);
        }
        let schema = serde_json::to_value(T::schema()).unwrap();
        assert_eq!(schema["enum"], serde_json::json!(words));
    }

    #[test]
    fn words_are_the_same_everywhere() {
        check::<Policy>(Policy::WORDS);
        check::<ObservedPolicy>(ObservedPolicy::WORDS);
        check::<Witness>(Witness::WORDS);
        check::<AlarmKind>(AlarmKind::WORDS);
        check::<View>(View::WORDS);
        check::<Enforce>(Enforce::WORDS);
        check::<Guard>(Guard::WORDS);
        check::<Health>(Health::WORDS);
        check::<DrillStageWord>(DrillStageWord::WORDS);
        check::<DrillState>(DrillState::WORDS);
        check::<Transport>(Transport::WORDS);
        check::<Operation>(Operation::WORDS);
        check::<Tag>(Tag::WORDS);
        check::<VerdictWord>(VerdictWord::WORDS);
        check::<ConfidenceWord>(ConfidenceWord::WORDS);
    }
}
