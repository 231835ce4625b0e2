//! The other side of a [`super::Client`]: the holder's socket, or a server's address.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::SOCKET;
use crate::ipc;
use crate::secret::Secret;
use crate::store::hold::Hold;

/// Who is asked.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// The holder of this data directory.
    Holder(PathBuf),
    Server(Arc<Server>),
}

/// A server that is reached over TCP.
#[derive(Debug)]
pub(super) struct Server {
    /// `host:port`
    pub authority: String,
    pub token: Option<Secret>,
}

/// Why a text is not the address of a server.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("{0}: https is not supported yet")]
    Https(String),
    #[error("{0:?} is not the address of a server; it looks like http://127.0.0.1:7430")]
    Shape(String),
    #[error("the token has a character that no header may have")]
    Token,
}

/// Both directions of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Peer {
    /// The server at `url`: `http://host:port`.
    pub fn server(url: &str, token: Option<Secret>) -> Result<Self, AddressError> {
        let shape = || AddressError::Shape(url.to_owned());
        let address: hyper::Uri = url.parse().map_err(|_| shape())?;
        match address.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(AddressError::Https(url.to_owned())),
            _ => return Err(shape()),
        }
        let authority = address.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.filter(|authority| !authority.host().is_empty()).ok_or_else(shape)?;
        if !matches!(address.path(), "" | "/") || address.query().is_some() {
            return Err(shape());
        }
        if token.as_ref().is_some_and(|token| !token.expose().bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(AddressError::Token);
        }
        let authority = match authority.port_u16() {
            Some(_) => authority.to_string(),
            None => format!("{authority}:80"),
        };
        Ok(Self::Server(Arc::new(Server { authority, token })))
    }

    pub async fn open(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Holder(data) => Box::new(ipc::connect(data, SOCKET).await?),
            Self::Server(server) => {
                let stream = TcpStream::connect(&server.authority).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }

    /// The name that requests are for.
    pub fn host(&self) -> &str {
        match self {
            Self::Holder(_) => "windlass",
            Self::Server(server) => &server.authority,
        }
    }

    /// Who it is, with the process's number where that is known: for whoever is to look after it.
    pub fn by_process(&self) -> String {
        let Self::Holder(data) = self else { return self.to_string() };
        match Hold::holder(data) {
            Ok(Some(holder)) => {
                format!("process {} ({}), which holds {},", holder.pid, holder.what, data.display())
            }
            _ => self.to_string(),
        }
    }

    pub fn token(&self) -> Option<&Secret> {
        match self {
            Self::Holder(_) => None,
            Self::Server(server) => server.token.as_ref(),
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Holder(data) => write!(f, "the process that holds {}", data.display()),
            Self::Server(server) => write!(f, "the server at http://{}", server.authority),
        }
    }
}
