//! A server in a process of its own, and what the kernel says of it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::param::clock_ticks_per_second;

use crate::{Result, cores::Cores, servers::Setup};

/// Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    control: u16,
}

impl Server {
    pub(crate) fn start(setup: &Setup, cores: &Cores) -> Result<Self> {
        let mut child =
            Command::new(std::env::current_exe()?).args(setup.arguments(cores)?).stdout(Stdio::piped()).spawn()?;
        let mut ports = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut ports)?;
        let (port, control) = ports.trim().split_once(' ').ok_or("the server did not start")?;
        Ok(Self { port: port.parse()?, control: control.parse()?, child })
    }

    /// Where it is told what to publish.
    pub(crate) fn control(&self) -> Result<TcpStream> {
        let control = TcpStream::connect(("127.0.0.1", self.control))?;
        control.set_nodelay(true)?;
        Ok(control)
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> Result<usize> {
        self.memory("VmRSS:")
    }

    /// The most resident memory there ever was, in bytes.
    pub(crate) fn peak(&self) -> Result<usize> {
        self.memory("VmHWM:")
    }

    fn memory(&self, row: &str) -> Result<usize> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(row)).ok_or("no such row")?;
        let kilobytes: usize = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024)
    }

    /// Processor time that all its threads have had, in user space and in the kernel: the 14th and 15th field of
    /// proc_pid_stat(5).
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("no process name")?;
        let mut fields = fields.split(' ').skip(11);
        let (user, system) = fields.next().zip(fields.next()).ok_or("too few fields")?;
        let ticks: u64 = user.parse::<u64>()? + system.parse::<u64>()?;
        Ok(Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second())?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
