//! A server of static files on the loopback interface, for reading the book.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

/// Serves the files under `out` until interrupted. Only this machine can reach it.
pub fn serve(out: &Path, port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .context("opening a port on the loopback interface")?;
    let address = format!("http://{}/", listener.local_addr()?);
    println!("Read the book at {address} (Ctrl-C ends this).");
    // Where there is a desktop, the page opens; where there is none, the line above is enough.
    let mut browser = Command::new("xdg-open");
    browser.arg(&address).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok();
    let out = out.canonicalize().with_context(|| format!("finding {}", out.display()))?;
    for stream in listener.incoming().flatten() {
        let out = out.clone();
        // A reader who goes away in the middle of a page is no reason to stop.
        std::thread::spawn(move || answer(stream, &out).ok());
    }
    Ok(())
}

fn answer(mut stream: TcpStream, out: &Path) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    // The rest of the request is read and dropped: closing with unread bytes would reset the line.
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let file = if method == "GET" { resolve(out, target) } else { None };
    let (status, file) = match file {
        Some(file) => ("200 OK", file),
        None => ("404 Not Found", out.join("404.html")),
    };
    let body = std::fs::read(&file).unwrap_or_default();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        media_type(&file),
        body.len()
    )?;
    Ok(stream.write_all(&body)?)
}

/// The file that `target` asks for, if it lies under `out`.
fn resolve(out: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?.trim_start_matches('/');
    let mut file = out.join(path).canonicalize().ok()?;
    if file.is_dir() {
        file = file.join("index.html");
    }
    (file.starts_with(out) && file.is_file()).then_some(file)
}

fn media_type(file: &Path) -> &'static str {
    match file.extension().unwrap_or_default().to_str() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("json") => "application/json",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_book_are_served() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").canonicalize().unwrap();
        assert_eq!(resolve(&here, "/serve.rs?x=1"), Some(here.join("serve.rs")));
        assert_eq!(resolve(&here, "/../Cargo.toml"), None);
        assert_eq!(resolve(&here, "//etc/passwd"), None);
        assert_eq!(resolve(&here, "/none.html"), None);
    }
}
