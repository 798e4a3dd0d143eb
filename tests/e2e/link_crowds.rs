//! Many guests at once, and some who take their time.

use serde_json::Value;
use tests::{Guest, Invocation, Lab, poll_until};

/// Guests with TLS connections of their own from several addresses of loopback; `talk` is what each of them does.
const CROWD: &str = "
import asyncio, re, ssl, sys, urllib.parse
host, port, path, code, size = '127.0.0.1', int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

async def connect(number):
    # Each address has its own bounds.
    source = ('127.0.1.%d' % (number % 10 + 1), 0)
    return await asyncio.open_connection(host, port, ssl=context, local_addr=source)

async def head(reader):
    lines = (await reader.readuntil(b'\\r\\n\\r\\n')).decode().split('\\r\\n')
    fields = dict(line.lower().split(': ', 1) for line in lines[1:] if ': ' in line)
    return lines[0].split()[1], fields

def request(writer, method, address, cookie, body='', accept='application/json'):
    writer.write((f'{method} {path}{address} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\nCookie: {cookie}\\r\\nAccept: {accept}\\r\\n'
                  f'Content-Length: {len(body)}\\r\\n\\r\\n{body}').encode())

async def guest(number, ready):
    reader, writer = await connect(number)
    request(writer, 'POST', 'enter', '', 'code=' + code)
    status, fields = await head(reader)
    assert status == '303', status
    cookie = fields['set-cookie'].split(';')[0]
    request(writer, 'GET', 'file/0/f.bin', cookie)
    status, fields = await head(reader)
    assert status == '200' and int(fields['content-length']) == size, (status, fields)
    await reader.readexactly(size)
    while True:
        request(writer, 'POST', 'chat', cookie, f'text=from+{number}&name=G{number}')
        status, fields = await head(reader)
        await reader.readexactly(int(fields['content-length']))
        if status != '429':
            break
        await asyncio.sleep(1)
    assert status == '201', status
    request(writer, 'GET', 'chat', cookie, accept='text/event-stream')
    status, fields = await head(reader)
    if status == '200':
        await reader.readuntil(f'from {number}'.encode())
    ready.append(status)
    if len(ready) == 200:
        print('all are there', ready.count('200'), ready.count('503'), flush=True)
    if status == '200':
        await reader.readuntil(b'hello all')
        return 'live'
    await reader.readexactly(int(fields['content-length']))
    while True:
        await asyncio.sleep(2)
        request(writer, 'GET', 'chat', cookie)
        status, fields = await head(reader)
        assert status == '200', status
        if b'hello all' in await reader.readexactly(int(fields['content-length'])):
            return 'asked'

async def main():
    ready = []
    ends = await asyncio.gather(*(guest(number, ready) for number in range(200)))
    print('answered', ends.count('live'), ends.count('asked'))

asyncio.run(main())
";

#[test]
fn two_hundred_guests_at_once() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let node = alice.serve();
    let guest = Guest::of(&lab, &alice, &["--chat"], &[&lab.file("f.bin", 2_000_000)]);
    let path = format!("/{}", guest.address("").splitn(4, '/').nth(3).unwrap());
    let before = node.resident_mib();
    let script = [CROWD, &guest.place().1, &path, guest.code(), "2000000"];
    let crowd = Invocation::new("python3", &guest.folder).arg("-c").args(script).start();
    crowd.wait_for("all are there 128 72");
    let after = node.resident_mib();
    // Each connection has two pieces of a file, what TLS has not sent yet, and its buffers: a quarter of a MiB.
    assert!(after <= before + 64, "{before} MiB before, {after} MiB with them");
    let talks = alice.peer(["--json", "link", "chat", "1"]).run().exits(0).json();
    assert_eq!(talks.len(), 200);
    let mut names: Vec<String> = talks.iter().map(|talk| talk["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 200);
    // Others still get in: there are connections left.
    guest.curl().args(["-o", "f.bin", &guest.file_address("f.bin")]).run().exits(0);
    for talk in talks {
        let whom = format!("{}.{}", talk["link"], talk["guest"]);
        alice.peer(["link", "chat", &whom, "hello all"]).run().exits(0);
    }
    crowd.finish().exits(0).prints("answered 128 72");
}

#[test]
fn uploads_that_trickle_leave_room_for_others() {
    let lab = Lab::start();
    let alice = lab.user("alice");
    let _node = alice.serve();
    let inbox = lab.join("Inbox");
    let guest = Guest::of(&lab, &alice, &["--receive", inbox.to_str().unwrap()], &[]);
    let path = format!("/{}", guest.address("").splitn(4, '/').nth(3).unwrap());
    let script = "
import select, socket, ssl, sys, time
port, path, authorization = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
held = []
for number in range(60):
    # Of one address, as somebody has it who wants to be in the way.
    tls = context.wrap_socket(socket.create_connection(('127.0.0.1', port), source_address=('127.0.2.1', 0)))
    tls.sendall(f'PUT {path}in/f{number} HTTP/1.1\\r\\nHost: 127.0.0.1:{port}\\r\\nAuthorization: {authorization}\\r\\n'
                f'Content-Length: 1000000\\r\\n\\r\\nx'.encode())
    held.append(tls)
refused, until = 0, time.monotonic() + 30
while refused < 52 and time.monotonic() < until:
    for tls in select.select(held, [], [], 0.5)[0]:
        refused += b' 503 ' in tls.recv(4096)
        held.remove(tls)
print('they trickle', len(held), refused, flush=True)
while True:
    for tls in held:
        tls.sendall(b'x')
    time.sleep(1)
";
    let args = [script, &guest.place().1, &path, guest.text("authorization")];
    let trickle = Invocation::new("python3", &guest.folder).arg("-c").args(args).start();
    trickle.wait_for("they trickle 8 52");
    let small = tests::files::write(guest.folder.join("small"), "abc");
    let put = guest.curl().args(["-T"]).arg(&small).arg(guest.address("in/small"));
    assert_eq!(Guest::status(put), "201", "another address");
    let placed: Value = serde_json::from_slice(&std::fs::read(guest.folder.join("answer")).unwrap()).unwrap();
    assert_eq!(placed["name"], "small");
    trickle.kill();
    trickle.finish();
    // Who is gone holds nothing.
    let again = || {
        let curl = guest.curl().args([
            "--interface",
            "127.0.2.1",
            "--connect-to",
            &format!("::127.0.0.1:{}", guest.place().1),
            "-T",
        ]);
        Guest::status(curl.arg(&small).arg(guest.address("in/other")))
    };
    poll_until(|| (again() == "201").then_some(()), || format!("their places stay taken: {}", again()));
}
