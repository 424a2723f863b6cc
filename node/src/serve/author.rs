//! Who asks for a change, as it is written down beside it.

use tonic::{Request, Status};
use weir_coord::zookeeper::{Author, Origin};
use weir_model::PolicyVersion;
use weir_proto::admin::v1;
use weir_tls::{Identity, Peer};

/// Who asks. A certificate's name goes before what whoever asks says of themselves; of whom a node
/// passes on, it knows the name.
///
/// # Errors
///
/// That a name is none.
pub(super) fn asking<T>(
    request: &Request<T>,
    said: Option<v1::Author>,
    is_passed_on: bool,
) -> Result<Option<v1::Author>, Status> {
    let said = said
        .map(|said| match said.certified {
            true => Author::certified(&said.name),
            false => Author::claimed(&said.name),
        })
        .transpose()
        .map_err(|error| Status::out_of_range(error.to_string()))?;
    let peer = request.extensions().get::<Peer>();
    let identity = peer.and_then(|peer| peer.identity);
    let author = match (peer, identity) {
        (_, Some(identity)) if identity.node.is_some() && is_passed_on => said,
        (Some(peer), Some(identity)) => Some(of_certificate(peer, identity)),
        _ => said.and_then(|said| Author::claimed(said.name()).ok()),
    };
    Ok(author.as_ref().map(told))
}

/// The name, or what else there is to say of somebody whose certificate has none that can be shown.
fn of_certificate(peer: &Peer, identity: Identity) -> Author {
    let name = peer.name.as_deref().map(Author::certified);
    if let Some(Ok(author)) = name {
        return author;
    }
    let id = identity.node.map(|node| format!("node {node}"));
    let what = id.as_deref().unwrap_or("an operator");
    Author::certified(what).expect("a UUID is short and can be seen")
}

/// As it is sent.
pub(crate) fn told(author: &Author) -> v1::Author {
    v1::Author {
        name: author.name().to_owned(),
        certified: author.is_certified(),
    }
}

/// As it is written down. [`asking`] has looked at the name.
pub(crate) fn checked(author: v1::Author) -> Option<Author> {
    match author.certified {
        true => Author::certified(&author.name).ok(),
        false => Author::claimed(&author.name).ok(),
    }
}

/// What is written down beside a version that `author` asks for.
pub(crate) fn origin(author: Option<v1::Author>, restores: Option<PolicyVersion>) -> Origin {
    Origin {
        author: author.and_then(checked),
        restores,
        confirmed_by: None,
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use weir_model::NodeId;
    use weir_tls::Role;

    use super::*;

    fn said(name: &str, certified: bool) -> Option<v1::Author> {
        let name = name.to_owned();
        Some(v1::Author { name, certified })
    }

    fn by(identity: Option<Identity>, name: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        request.extensions_mut().insert(Peer {
            address: ([192, 0, 2, 1], 7946).into(),
            identity,
            name: name.map(Into::into),
        });
        request
    }

    fn operator() -> Option<Identity> {
        let role = Some(Role::Operate);
        Some(Identity { role, node: None })
    }

    fn node() -> Option<Identity> {
        let node = Some(NodeId::from_u128(7));
        Some(Identity { node, role: None })
    }

    #[test]
    fn a_certificate_goes_before_what_is_said() {
        let asked = by(operator(), Some("ada"));
        for claimed in [None, said("root", false), said("root", true)] {
            assert_eq!(asking(&asked, claimed, false).unwrap(), said("ada", true));
        }
        let claimed = said("root", true);
        let author = asking(&asked, claimed, true).unwrap();
        assert_eq!(author, said("ada", true), "only a node passes on");
        let nameless = asking(&by(operator(), None), None, false).unwrap();
        assert_eq!(nameless, said("an operator", true));
        let unseen = asking(&by(operator(), Some("ada\n")), None, false).unwrap();
        assert_eq!(unseen, said("an operator", true));
    }

    #[test]
    fn nobody_says_of_themselves_that_they_are_certified() {
        let claimed = said("root@edge-1", true);
        let expected = said("root@edge-1", false);
        for asked in [Request::new(()), by(None, None)] {
            for is_passed_on in [false, true] {
                let author = asking(&asked, claimed.clone(), is_passed_on).unwrap();
                assert_eq!(author, expected, "{is_passed_on}");
            }
        }
        assert_eq!(asking(&Request::new(()), None, false).unwrap(), None);
    }

    #[test]
    fn a_node_knows_whom_it_passes_on() {
        let asked = by(node(), Some("edge-1"));
        for author in [None, said("ada", true), said("ada@laptop", false)] {
            assert_eq!(asking(&asked, author.clone(), true).unwrap(), author);
        }
        let own = asking(&asked, said("ada", true), false).unwrap();
        assert_eq!(own, said("edge-1", true), "what it asks itself");
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "a\nb", "a\u{202e}b", &"a".repeat(200)] {
            let refused = asking(&Request::new(()), said(name, false), false);
            assert_eq!(refused.unwrap_err().code(), Code::OutOfRange, "{name:?}");
        }
    }
}
