//! A network namespace that lives as long as whoever made it, and the TAP device in it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

/// The device's name.
const DEVICE: &str = "wire0";

/// The address of a port.
pub(super) fn address(port: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, octet(port))
}

/// The hardware address of a port.
pub(super) fn hardware(port: usize) -> [u8; 6] {
    [2, 0, 0, 0, 77, octet(port)]
}

fn octet(port: usize) -> u8 {
    u8::try_from(port + 1).expect("a wire has fewer ports")
}

/// The namespace; it ends with its holder, which ends when its standard input does.
#[derive(Debug)]
pub(super) struct Namespace {
    holder: Child,
}

impl Namespace {
    pub(super) fn new() -> io::Result<Self> {
        let script = "ip link set lo up && echo up && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = holder.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        BufReader::new(stdout).read_line(&mut line)?;
        if line != "up\n" {
            let _ = holder.wait();
            return Err(io::Error::other("no network namespace can be made"));
        }
        Ok(Self { holder })
    }

    /// The process that holds it.
    pub(super) fn holder(&self) -> u32 {
        self.holder.id()
    }

    /// Makes the device, with its address, and those of all others.
    pub(super) fn device(
        &self,
        port: usize,
        ports: usize,
        offload: bool,
    ) -> io::Result<SyncDevice> {
        let path = format!("/proc/{}/ns/net", self.holder());
        let namespace = File::open(&path)?;
        let made = thread::spawn(move || {
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(LinkNameSpaceType::Network),
            )?;
            let device = DeviceBuilder::new().name(DEVICE).layer(Layer::L2);
            device.offload(offload).build_sync()
        });
        let device = made
            .join()
            .map_err(|_| io::Error::other("the thread died"))??;
        let text = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let mut script = format!(
            "link set {DEVICE} address {} up\naddress add {}/24 dev {DEVICE}\n",
            text(hardware(port)),
            address(port)
        );
        // So that nothing depends on questions that get lost.
        for other in (0..ports).filter(|other| *other != port) {
            let (ip, mac) = (address(other), text(hardware(other)));
            script += &format!("neigh add {ip} lladdr {mac} dev {DEVICE} nud permanent\n");
        }
        self.ip(&path, &script)?;
        Ok(device)
    }

    fn ip(&self, path: &str, script: &str) -> io::Result<()> {
        let mut ip = Command::new("nsenter")
            .arg(format!("--net={path}"))
            .args(["ip", "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()?;
        let mut stdin = ip.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(script.as_bytes())?;
        drop(stdin);
        if ip.wait()?.success() {
            Ok(())
        } else {
            Err(io::Error::other("ip failed"))
        }
    }
}
