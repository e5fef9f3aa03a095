//! The appliance that cases run on, with everything that they need made on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::{Appliance, Backing, Plane, Process, Rest, Setup};
use holdfast_testkit::{ConnectOptions, Connection, Io, Options, Session};
use serde_json::{Value, json};

/// Room for all volumes together; no memory of it is used before it is written.
const POOL: &str = "4GiB";
/// Volumes are as large as any transfer needs, several times over.
const VOLUME_BYTES: u64 = 16 << 20;
/// Time for one exchange on a connection that must answer; a healthy target needs none of it.
const LIMIT: Duration = Duration::from_secs(20);
/// Blocks that the bystander writes and reads back after each case.
const BYSTANDER_BLOCKS: u32 = 4;

/// How a volume is formatted: what `POST /volumes` is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Format {
    /// Bytes of a logical block, 512 or 4096.
    pub block_size: u32,
    /// Protection type, 0 to 3.
    pub pi_type: u8,
    /// The guard.
    pub guard: Guard,
    /// Storage tag bits.
    pub storage_tag_bits: u8,
}

impl Format {
    /// 4096-byte blocks, type 1, 16-bit guards: what most cases need.
    pub const STANDARD: Format = Format::new(4096, 1, Guard::Crc16);

    /// Without storage tags.
    #[must_use]
    pub const fn new(block_size: u32, pi_type: u8, guard: Guard) -> Format {
        Format { block_size, pi_type, guard, storage_tag_bits: 0 }
    }

    /// With this many storage tag bits.
    #[must_use]
    pub const fn storage_tag(self, storage_tag_bits: u8) -> Format {
        Format { storage_tag_bits, ..self }
    }

    /// Bytes of a block, to index with.
    #[must_use]
    pub fn block_len(self) -> usize {
        usize::try_from(self.block_size).unwrap_or(usize::MAX)
    }

    fn name(self) -> String {
        let Format { block_size, pi_type, guard, storage_tag_bits } = self;
        format!("b{block_size}-t{pi_type}-{}-s{storage_tag_bits}", guard.word())
    }
}

/// The guard of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// CRC-16/T10-DIF.
    Crc16,
    /// CRC-32C.
    Crc32c,
    /// CRC-64/NVME.
    Crc64,
}

impl Guard {
    fn word(self) -> &'static str {
        match self {
            Guard::Crc16 => "crc16",
            Guard::Crc32c => "crc32c",
            Guard::Crc64 => "crc64",
        }
    }
}

/// How a host sees a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// Without metadata.
    Plain,
    /// With interleaved protection information.
    Pi,
}

impl View {
    fn word(self) -> &'static str {
        match self {
            View::Plain => "plain",
            View::Pi => "pi",
        }
    }
}

/// A subsystem with one volume, namespace 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Its name, and the volume's.
    pub name: String,
    /// Its NQN.
    pub nqn: String,
    /// The volume's format.
    pub format: Format,
}

/// How an appliance is started for a Lab.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start<'a> {
    /// The folder that has its programs; those built beside this program when there is none.
    pub programs: Option<&'a Path>,
    /// Variables of its environment.
    pub environment: &'a [(&'a str, &'a str)],
    /// What its volumes lie in; as the tests' environment says when there is nothing here.
    pub backing: Option<Backing>,
    /// How long hosts wait for one answer; long enough for any machine when there is nothing here.
    pub patience: Option<Duration>,
}

/// A running appliance.
pub struct Lab {
    own: Option<Appliance>,
    rest: Rest,
    nvme: SocketAddr,
    /// Begins every name, so that two runs on one appliance do not meet.
    prefix: String,
    limit: Duration,
    shares: BTreeMap<String, Share>,
    hosts: BTreeSet<String>,
    grants: BTreeSet<(String, String)>,
    made: u32,
    bystander: Option<Session>,
    target: Option<Process>,
    rounds: u64,
}

impl Lab {
    /// Starts an appliance of its own; `name` names its log.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(name: &str, start: Start) -> Result<Lab> {
        let Start { programs, environment, backing, patience } = start;
        let setup =
            Setup { programs, environment, backing, arguments: &["--ram-pool", POOL], ..Setup::default() };
        let appliance = Appliance::start_as(name, setup)?;
        let (rest, address) = (appliance.rest().clone(), appliance.nvme());
        Lab::on(Some(appliance), rest, address, "c".to_owned(), patience.unwrap_or(LIMIT))
    }

    /// Ends the appliance of its own well, and has what its pools in files hold checked.
    ///
    /// # Errors
    /// When it does not end well, or a pool is not whole.
    pub fn end(mut self) -> Result<()> {
        self.bystander = None;
        self.own.take().map_or(Ok(()), Appliance::stop)
    }

    /// Uses an appliance that runs already: its API (`http://…`) and its NVMe/TCP portal. What is made there stays.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn attach(api: &str, nvme: &str) -> Result<Lab> {
        Lab::on(None, Rest::new(api), nvme, format!("c{}", std::process::id()), LIMIT)
    }

    fn on(
        own: Option<Appliance>,
        rest: Rest,
        nvme: impl ToSocketAddrs,
        prefix: String,
        limit: Duration,
    ) -> Result<Lab> {
        let nvme = nvme.to_socket_addrs()?.next().context("no address of an NVMe/TCP portal")?;
        let mut lab = Lab {
            own,
            rest,
            nvme,
            prefix,
            limit,
            shares: BTreeMap::new(),
            hosts: BTreeSet::new(),
            grants: BTreeSet::new(),
            made: 0,
            bystander: None,
            target: None,
            rounds: 0,
        };
        lab.settle().context("before any case")?;
        Ok(lab)
    }

    /// The NVMe/TCP portal.
    #[must_use]
    pub fn nvme(&self) -> SocketAddr {
        self.nvme
    }

    /// How long hosts wait for one answer.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.limit
    }

    /// The API.
    #[must_use]
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// The subsystem with a volume of this format that all cases share. A case writes what it wants to read.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn share(&mut self, format: Format) -> Result<Share> {
        self.share_named(&format.name(), format)
    }

    /// A subsystem with a volume of this format that no other case has seen.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn fresh_share(&mut self, format: Format) -> Result<Share> {
        self.made = self.made.saturating_add(1);
        self.share_named(&format!("fresh{}", self.made), format)
    }

    /// Adds a volume of this format to a subsystem, as namespace `nsid`; gives the volume's name.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn add_namespace(&mut self, share: &Share, nsid: u32, format: Format) -> Result<String> {
        self.made = self.made.saturating_add(1);
        let volume = format!("{}-added{}", self.prefix, self.made);
        self.make_volume(&volume, format)?;
        let path = format!("/subsystems/{}/namespaces", share.name);
        self.rest.post(&path, &json!({"volume": volume, "nsid": nsid}))?;
        Ok(volume)
    }

    /// The NQN of host `name`, which is registered if it was not yet, but may use nothing yet.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn host(&mut self, name: &str) -> Result<String> {
        let name = format!("{}-{name}", self.prefix);
        let nqn = holdfast_e2e::host_nqn(&name);
        if !self.hosts.contains(&name) {
            self.rest.post("/hosts", &json!({"name": name, "nqn": nqn}))?;
            self.hosts.insert(name);
        }
        Ok(nqn)
    }

    /// A host's name at the API.
    #[must_use]
    pub fn host_name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Lets host `name` use a subsystem; the first view that it was let in with stays.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn admit(&mut self, name: &str, share: &Share, view: View) -> Result<String> {
        let nqn = self.host(name)?;
        let grant = (share.name.clone(), name.to_owned());
        if !self.grants.contains(&grant) {
            let path = format!("/subsystems/{}/hosts/{}", share.name, self.host_name(name));
            self.rest.put(&path, &json!({"view": view.word(), "enforce": "any"}))?;
            self.grants.insert(grant);
        }
        Ok(nqn)
    }

    /// A session on a volume of the standard format, plain view.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn session(&mut self, options: Options) -> Result<Session> {
        self.open(Format::STANDARD, View::Plain, options)
    }

    /// A session on the shared volume of this format; one host has all plain views, another all PI views.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&mut self, format: Format, view: View, options: Options) -> Result<Session> {
        let share = self.share(format)?;
        self.open_as(view.word(), &share, view, options)
    }

    /// A session of host `name` on a subsystem.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_as(&mut self, name: &str, share: &Share, view: View, options: Options) -> Result<Session> {
        let nqn = self.admit(name, share, view)?;
        let limit = self.limit.min(options.connect.limit);
        Ok(Session::open(self.nvme, &nqn, &share.nqn, options.limit(limit))?)
    }

    /// A TCP connection on which nothing has been sent.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn raw(&self) -> Result<Connection> {
        Ok(Connection::raw(self.nvme, self.limit)?)
    }

    /// A connection on which ICReq and ICResp have been exchanged.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn initialized(&self, options: &ConnectOptions) -> Result<Connection> {
        Ok(Connection::open(self.nvme, &ConnectOptions { limit: self.limit.min(options.limit), ..*options })?)
    }

    /// The uninvolved host; it is there between and during all cases.
    ///
    /// # Errors
    /// When it is gone.
    pub fn bystander(&mut self) -> Result<&mut Session> {
        self.bystander.as_mut().context("the bystander has no session")
    }

    /// Demands that the bystander's session works.
    ///
    /// # Errors
    /// When it does not.
    pub fn bystander_works(&mut self) -> Result<()> {
        self.rounds = self.rounds.wrapping_add(1);
        let data = crate::check::pattern(self.rounds, 4096 * usize::try_from(BYSTANDER_BLOCKS)?);
        let at = Io::at(self.rounds % 1024, BYSTANDER_BLOCKS);
        let session = self.bystander()?;
        session.admin().keep_alive()?.ok()?;
        let io = session.io(1);
        io.write(1, &at, &data)?.ok()?;
        let back = io.read(1, &at, data.len())?.ok()?.data;
        ensure!(back == data, "the bystander read back something else");
        Ok(())
    }

    /// What the target process is now; nothing on an appliance that is not the Lab's own.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self) -> Result<Option<Process>> {
        self.own.as_ref().map(|appliance| appliance.process(Plane::Data)).transpose()
    }

    /// Demands that the bystander works and that the target is still the same process. When that fails, later cases
    /// begin with a new bystander.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let alive = if self.bystander.is_some() { self.bystander_works() } else { Ok(()) };
        let now = self.process();
        let same = match (&self.target, &now) {
            (_, Err(error)) => Err(anyhow::anyhow!("the target does not run: {error:#}")),
            (Some(old), Ok(Some(now))) if old.pid != now.pid => Err(anyhow::anyhow!("the target died")),
            _ => Ok(()),
        };
        let settled = same.and(alive.context("the bystander"));
        if settled.is_err() || self.bystander.is_none() {
            self.begin()?;
        }
        settled
    }

    /// Opens the bystander's session and remembers the process.
    fn begin(&mut self) -> Result<()> {
        self.bystander = None;
        let share = self.share_named("bystander", Format::STANDARD)?;
        let options = Options::default().kato_ms(0);
        let look = || self.open_as("bystander", &share, View::Plain, options.clone()).map(Some);
        let session = holdfast_e2e::eventually(LIMIT, "a session of the bystander", look)?;
        self.bystander = Some(session);
        self.target = self.process()?;
        self.bystander_works()
    }

    fn share_named(&mut self, name: &str, format: Format) -> Result<Share> {
        if let Some(share) = self.shares.get(name) {
            return Ok(share.clone());
        }
        let full = format!("{}-{name}", self.prefix);
        self.make_volume(&full, format)?;
        let subsystem = self.rest.post("/subsystems", &json!({"name": full}))?;
        self.rest.post(&format!("/subsystems/{full}/namespaces"), &json!({"volume": full, "nsid": 1}))?;
        let nqn = subsystem.get("nqn").and_then(Value::as_str).context("no nqn")?.to_owned();
        let share = Share { name: full, nqn, format };
        self.shares.insert(name.to_owned(), share.clone());
        Ok(share)
    }

    fn make_volume(&self, name: &str, format: Format) -> Result<()> {
        let Format { block_size, pi_type, guard, storage_tag_bits } = format;
        let mut pi = json!({"type": pi_type, "guard": guard.word()});
        if storage_tag_bits > 0
            && let Some(fields) = pi.as_object_mut()
        {
            fields.insert("storage_tag_bits".to_owned(), storage_tag_bits.into());
        }
        self.rest.post(
            "/volumes",
            &json!({"name": name, "pool": "ram", "size_bytes": VOLUME_BYTES, "block_size": block_size, "pi": pi}),
        )?;
        Ok(())
    }
}
