//! Mistakes in the transport, the Fabrics commands, and what protects hosts from each other.

use crate::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant { name: "icreq-pfv", caught_by: &["transport.icreq.pfv"] },
    Mutant { name: "icreq-hpda", caught_by: &["transport.icreq.hpda-range"] },
    Mutant { name: "icreq-twice", caught_by: &["transport.icreq.twice"] },
    Mutant {
        name: "term-answered",
        caught_by: &["transport.term.h2c-closes", "transport.term.h2c-too-long"],
    },
    Mutant { name: "term-quote", caught_by: &["transport.term.c2h-quotes-header"] },
    Mutant {
        name: "hlen-offset",
        caught_by: &["transport.capsule.hlen", "transport.h2c.hlen", "transport.icreq.hlen"],
    },
    Mutant { name: "pdo-alignment", caught_by: &["transport.capsule.pdo-alignment"] },
    Mutant { name: "capsule-length", caught_by: &["transport.capsule.plen-huge"] },
    Mutant { name: "digest-flags", caught_by: &["transport.capsule.digest-flags"] },
    Mutant {
        name: "header-digest",
        caught_by: &[
            "transport.digest.header-capsule",
            "transport.digest.header-every-bit",
            "transport.digest.header-h2c",
        ],
    },
    Mutant { name: "header-digest-fei", caught_by: &["transport.digest.header-fei"] },
    Mutant {
        name: "data-digest",
        caught_by: &[
            "transport.digest.data-capsule",
            "transport.digest.data-h2c",
            "transport.digest.data-connect",
        ],
    },
    Mutant {
        name: "datal",
        caught_by: &["transport.h2c.datal-above-plen", "transport.h2c.datal-below-plen"],
    },
    Mutant { name: "datao-dword", caught_by: &["transport.h2c.datao-dword"] },
    Mutant { name: "maxh2cdata", caught_by: &["transport.h2c.maxh2cdata"] },
    Mutant {
        name: "h2c-order",
        caught_by: &["transport.h2c.gap", "transport.h2c.repeat", "transport.h2c.start"],
    },
    Mutant { name: "h2c-last", caught_by: &["transport.h2c.last-early", "transport.h2c.last-missing"] },
    Mutant { name: "h2c-cccid", caught_by: &["transport.h2c.cccid"] },
    Mutant { name: "cid-conflict", caught_by: &["fabrics.queues.cid-conflict"] },
    Mutant { name: "success-without-sqhd", caught_by: &["transport.flow.updates"] },
    Mutant { name: "sqhd-wrap", caught_by: &["transport.flow.wrap", "transport.flow.admin-wrap"] },
    Mutant { name: "sqhd-without-flow-control", caught_by: &["transport.flow.disabled-zero"] },
    Mutant {
        name: "flow-control-always",
        caught_by: &["transport.flow.disabled", "transport.flow.disabled-admin"],
    },
    Mutant {
        name: "overrun",
        caught_by: &["transport.flow.disabled-overrun", "robustness.greed.overrun-writes"],
    },
    Mutant { name: "c2h-last", caught_by: &["transport.c2h.contiguous", "transport.c2h.largest"] },
    Mutant { name: "hpda", caught_by: &["transport.align.hpda", "transport.align.hpda-admin"] },
    Mutant { name: "sgl-type", caught_by: &["transport.sgl.type-read", "transport.sgl.type-admin"] },
    Mutant {
        name: "sgl-read-length",
        caught_by: &["transport.sgl.read-short", "transport.sgl.identify-short"],
    },
    Mutant { name: "sgl-write-length", caught_by: &["transport.sgl.write-short"] },
    Mutant { name: "sgl-offset", caught_by: &["transport.sgl.offset"] },
    Mutant { name: "psdt", caught_by: &["transport.sgl.psdt-prp", "transport.sgl.psdt-reserved"] },
    Mutant { name: "connect-recfmt", caught_by: &["fabrics.connect.recfmt", "fabrics.connect-io.recfmt"] },
    Mutant {
        name: "connect-sqsize",
        caught_by: &["fabrics.connect.sqsize-large", "fabrics.connect-io.sqsize-large"],
    },
    Mutant {
        name: "connect-cntlid",
        caught_by: &["fabrics.connect.cntlid", "fabrics.connect.cntlid-reserved"],
    },
    Mutant {
        name: "connect-iattr",
        caught_by: &["fabrics.connect.cntlid", "fabrics.connect.subnqn-unknown"],
    },
    Mutant { name: "connect-io-subnqn", caught_by: &["fabrics.connect-io.subnqn"] },
    Mutant { name: "connect-io-hostnqn", caught_by: &["fabrics.connect-io.hostnqn"] },
    Mutant { name: "connect-io-hostid", caught_by: &["fabrics.connect-io.hostid"] },
    Mutant { name: "queue-twice", caught_by: &["fabrics.connect-io.qid-duplicate"] },
    Mutant { name: "queue-beyond", caught_by: &["fabrics.connect-io.qid-beyond"] },
    Mutant {
        name: "serve-always",
        caught_by: &[
            "fabrics.commands.admin-before-enable",
            "fabrics.life.shutdown-io",
            "fabrics.life.reset-admin-commands",
        ],
    },
    Mutant { name: "reset-keeps-queues", caught_by: &["fabrics.life.reset-deletes-queues"] },
    Mutant {
        name: "shutdown-endless",
        caught_by: &["fabrics.life.shutdown-normal", "fabrics.life.shutdown-abrupt"],
    },
    Mutant { name: "property-size", caught_by: &["fabrics.property.get-size"] },
    Mutant { name: "disconnect-admin", caught_by: &["fabrics.disconnect.admin"] },
    Mutant {
        name: "keep-alive-endless",
        caught_by: &["fabrics.keep-alive.expires", "fabrics.keep-alive.shorter"],
    },
    Mutant { name: "keep-alive-always", caught_by: &["fabrics.keep-alive.disabled"] },
    Mutant { name: "discovery-all", caught_by: &["fabrics.discovery.only-granted"] },
    Mutant { name: "r2t-length", caught_by: &["transport.r2t.length"] },
    Mutant { name: "keep-alive-rounding", caught_by: &["fabrics.keep-alive.rounding"] },
    Mutant { name: "half-open-endless", caught_by: &["robustness.flood.half-open-ends"] },
    Mutant { name: "association-remains", caught_by: &["fabrics.association.admin-lost"] },
    Mutant { name: "access-for-all", caught_by: &["fabrics.access.unknown-host", "fabrics.access.no-grant"] },
];
