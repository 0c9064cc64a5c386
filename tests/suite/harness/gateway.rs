//! A local port of HTTP/1.1 that passes requests on, also over TLS or HTTP/2, so that every client of the suite can be one
//! of those.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1 as client1, http2 as client2};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// Small, so that a slow client is felt to be slow, and large, so that it holds up no other one.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// How requests are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Http1,
    Tls,
    Http2,
    TlsHttp2,
}

impl Transport {
    pub const ALL: [Transport; 4] = [
        Transport::Http1,
        Transport::Tls,
        Transport::Http2,
        Transport::TlsHttp2,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Transport::Http1 => "http1",
            Transport::Tls => "tls",
            Transport::Http2 => "http2",
            Transport::TlsHttp2 => "tls_http2",
        }
    }

    pub const fn has_tls(self) -> bool {
        matches!(self, Transport::Tls | Transport::TlsHttp2)
    }

    const fn is_http1(self) -> bool {
        matches!(self, Transport::Http1 | Transport::Tls)
    }
}

/// A connection to the daemon, with TLS or without.
pub enum Link {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Link::Plain(link) => Pin::new(link).poll_read(cx, buffer),
            Link::Tls(link) => Pin::new(link).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Link::Plain(link) => Pin::new(link).poll_write(cx, bytes),
            Link::Tls(link) => Pin::new(link).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Link::Plain(link) => Pin::new(link).poll_flush(cx),
            Link::Tls(link) => Pin::new(link).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Link::Plain(link) => Pin::new(link).poll_shutdown(cx),
            Link::Tls(link) => Pin::new(link).poll_shutdown(cx),
        }
    }
}

/// A client's configuration of TLS, which trusts this authority alone.
pub fn trusting(ca: &[u8], protocols: &[&[u8]]) -> Arc<rustls::ClientConfig> {
    presenting(ca, protocols, None)
}

/// The same, with a certificate and its key in PEM.
pub fn presenting(ca: &[u8], protocols: &[&[u8]], own: Option<(&[u8], &[u8])>) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca).expect("PEM"))
        .expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match own {
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_slice(certificate).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(key).expect("PEM");
            builder
                .with_client_auth_cert(vec![certificate], key)
                .expect("a key")
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Connects to a port of this machine with TLS.
pub async fn connect_tls(port: u16, config: Arc<rustls::ClientConfig>) -> io::Result<Link> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let link = TlsConnector::from(config).connect(name, socket).await?;
    Ok(Link::Tls(Box::new(link)))
}

/// The upstream of a gateway.
struct Target {
    port: u16,
    transport: Transport,
    tls: Option<Arc<rustls::ClientConfig>>,
    /// The one connection of HTTP/2.
    shared: Mutex<Option<client2::SendRequest<Empty<Bytes>>>>,
}

impl Target {
    async fn link(&self) -> io::Result<Link> {
        if let Some(config) = &self.tls {
            return connect_tls(self.port, Arc::clone(config)).await;
        }
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        socket.set_nodelay(true)?;
        Ok(Link::Plain(socket))
    }

    async fn pass_on(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let (mut parts, _) = request.into_parts();
        if self.transport.is_http1() {
            let (mut send, connection) = client1::handshake(TokioIo::new(self.link().await?)).await?;
            tokio::spawn(connection);
            return Ok(send
                .send_request(Request::from_parts(parts, Empty::<Bytes>::new()))
                .await?);
        }
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        parts.uri = format!("http://127.0.0.1:{}{target}", self.port).parse()?;
        parts.version = hyper::Version::HTTP_2;
        for name in ["host", "connection"] {
            parts.headers.remove(name);
        }
        let request = Request::from_parts(parts, Empty::new());
        let shared = self.shared.lock().await.clone();
        if let Some(mut send) = shared
            && let Ok(response) = send.send_request(request.clone()).await
        {
            return Ok(response);
        }
        // The connection has ended, or was told to go away.
        let mut shared = self.shared.lock().await;
        let link = TokioIo::new(self.link().await?);
        let (mut send, connection) = client2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(link)
            .await?;
        tokio::spawn(connection);
        *shared = Some(send.clone());
        drop(shared);
        Ok(send.send_request(request).await?)
    }
}

/// The port; its threads end with the process.
pub struct Gateway {
    port: u16,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Gateway {
    /// Leads to `port`, whose certificate the authority `ca` has signed.
    pub fn start(transport: Transport, port: u16, ca: &[u8]) -> Gateway {
        Gateway::start_with(transport, port, ca, None)
    }

    /// The same, with a certificate of its own and its key, in PEM.
    pub fn start_with(transport: Transport, port: u16, ca: &[u8], own: Option<(&[u8], &[u8])>) -> Gateway {
        let protocol: &[u8] = match transport {
            Transport::Http1 | Transport::Tls => b"http/1.1",
            Transport::Http2 | Transport::TlsHttp2 => b"h2",
        };
        let target = Arc::new(Target {
            port,
            transport,
            tls: transport.has_tls().then(|| presenting(ca, &[protocol], own)),
            shared: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        // A test may be within another runtime, which must not wait for this one.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("its address").port();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a runtime");
            while let Ok((socket, _)) = listener.accept().await {
                let target = Arc::clone(&target);
                let service = service_fn(move |request| {
                    let target = Arc::clone(&target);
                    async move {
                        let response = target.pass_on(request).await?;
                        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response.map(BodyExt::boxed))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Gateway {
            port,
            runtime: Some(runtime),
        }
    }

    /// `path` begins with a slash and may have a query.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
