//! MLKEM768-X25519 (X-Wing) as a KEM of HPKE: draft-ietf-hpke-pq, KEM identifier 0x647a.

use std::{fmt, sync::Arc};

use hpke::{
    Deserializable, HpkeError, Serializable,
    generic_array::typenum::{Sum, U32, U96, U192, U1024},
    kem::SharedSecret,
    rand_core::{CryptoRng, RngCore},
};
use ml_kem::{
    B32, Ciphertext, EncodedSizeUser, KemCore, MlKem768,
    kem::{Decapsulate, Encapsulate},
};
use sha3::{
    Digest, Sha3_256, Shake256,
    digest::{ExtendableOutput, Update, XofReader},
};
use x25519_dalek::{PublicKey as PointPublic, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a secret key: a seed.
pub(super) const SECRET_SIZE: usize = 32;
/// Bytes of a public key: the ML-KEM-768 key, then the X25519 point.
pub(super) const PUBLIC_SIZE: usize = LATTICE_PUBLIC_SIZE + POINT_SIZE;
/// Bytes of an encapsulated key: the ML-KEM-768 ciphertext, then the ephemeral point.
pub(super) const ENCAPPED_SIZE: usize = LATTICE_CIPHERTEXT_SIZE + POINT_SIZE;

const LATTICE_PUBLIC_SIZE: usize = 1184;
const LATTICE_CIPHERTEXT_SIZE: usize = 1088;
const LATTICE_POLYNOMIALS_SIZE: usize = 1152;
const LATTICE_MODULUS: u16 = 3329;
const POINT_SIZE: usize = 32;
const LABEL: &[u8] = br"\.//^\";

type LatticeSecret = <MlKem768 as KemCore>::DecapsulationKey;
type LatticePublic = <MlKem768 as KemCore>::EncapsulationKey;

/// A secret key, expanded once; clones share it, and the last one zeroizes it.
#[derive(Clone)]
pub(super) struct Secret(Arc<Expanded>);

struct Expanded {
    seed: Zeroizing<[u8; SECRET_SIZE]>,
    lattice: LatticeSecret,
    point: StaticSecret,
    public: Public,
}

impl Secret {
    pub(super) fn new(seed: Zeroizing<[u8; SECRET_SIZE]>) -> Self {
        let mut d = B32::default();
        let mut z = B32::default();
        let mut point = Zeroizing::new([0; POINT_SIZE]);
        let mut reader = Shake256::default().chain(*seed).finalize_xof();
        reader.read(&mut d);
        reader.read(&mut z);
        reader.read(&mut *point);
        let (lattice, lattice_public) = MlKem768::generate_deterministic(&d, &z);
        d.as_mut_slice().zeroize();
        z.as_mut_slice().zeroize();
        let point = StaticSecret::from(*point);
        let public = Public {
            point: PointPublic::from(&point),
            lattice: lattice_public,
        };
        Self(Arc::new(Expanded {
            seed,
            lattice,
            point,
            public,
        }))
    }

    pub(super) fn seed(&self) -> &[u8; SECRET_SIZE] {
        &self.0.seed
    }

    pub(super) fn public(&self) -> &Public {
        &self.0.public
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.public == other.0.public
    }
}

impl Eq for Secret {}

impl Serializable for Secret {
    type OutputSize = U32;

    fn write_exact(&self, buf: &mut [u8]) {
        buf.copy_from_slice(self.seed());
    }
}

impl Deserializable for Secret {
    fn from_bytes(encoded: &[u8]) -> Result<Self, HpkeError> {
        let seed = encoded
            .try_into()
            .map_err(|_| HpkeError::IncorrectInputLength(SECRET_SIZE, encoded.len()))?;
        Ok(Self::new(Zeroizing::new(seed)))
    }
}

/// A public key.
#[derive(Clone, PartialEq)]
pub(super) struct Public {
    lattice: LatticePublic,
    point: PointPublic,
}

impl Eq for Public {}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Public")
    }
}

impl Serializable for Public {
    type OutputSize = Sum<U1024, U192>;

    fn write_exact(&self, buf: &mut [u8]) {
        let (lattice, point) = buf.split_at_mut(LATTICE_PUBLIC_SIZE);
        lattice.copy_from_slice(&self.lattice.as_bytes());
        point.copy_from_slice(self.point.as_bytes());
    }
}

impl Deserializable for Public {
    fn from_bytes(encoded: &[u8]) -> Result<Self, HpkeError> {
        if encoded.len() != PUBLIC_SIZE {
            return Err(HpkeError::IncorrectInputLength(PUBLIC_SIZE, encoded.len()));
        }
        let (lattice, point) = encoded.split_at(LATTICE_PUBLIC_SIZE);
        if !coefficients_reduced(&lattice[..LATTICE_POLYNOMIALS_SIZE]) {
            return Err(HpkeError::ValidationError);
        }
        let lattice = lattice.try_into().expect("length was checked");
        let point: [u8; POINT_SIZE] = point.try_into().expect("length was checked");
        let point = PointPublic::from(point);
        // A point of low order would make sealing fail later, where it must not.
        if !StaticSecret::from([1; POINT_SIZE])
            .diffie_hellman(&point)
            .was_contributory()
        {
            return Err(HpkeError::ValidationError);
        }
        Ok(Self {
            lattice: LatticePublic::from_bytes(lattice),
            point,
        })
    }
}

/// The modulus check of FIPS 203, section 7.2, which the `ml-kem` crate leaves to its caller.
fn coefficients_reduced(polynomials: &[u8]) -> bool {
    polynomials.chunks_exact(3).all(|bytes| {
        let [low, middle, high] = [bytes[0], bytes[1], bytes[2]].map(u16::from);
        let first = low | (middle & 0x0f) << 8;
        let second = middle >> 4 | high << 4;
        first < LATTICE_MODULUS && second < LATTICE_MODULUS
    })
}

/// What travels: enough for the holder of the secret key to derive the shared secret.
#[derive(Clone)]
pub(super) struct Encapped {
    lattice: Ciphertext<MlKem768>,
    point: PointPublic,
}

impl Serializable for Encapped {
    type OutputSize = Sum<U1024, U96>;

    fn write_exact(&self, buf: &mut [u8]) {
        let (lattice, point) = buf.split_at_mut(LATTICE_CIPHERTEXT_SIZE);
        lattice.copy_from_slice(&self.lattice);
        point.copy_from_slice(self.point.as_bytes());
    }
}

impl Deserializable for Encapped {
    fn from_bytes(encoded: &[u8]) -> Result<Self, HpkeError> {
        if encoded.len() != ENCAPPED_SIZE {
            return Err(HpkeError::IncorrectInputLength(
                ENCAPPED_SIZE,
                encoded.len(),
            ));
        }
        let (lattice, point) = encoded.split_at(LATTICE_CIPHERTEXT_SIZE);
        let point: [u8; POINT_SIZE] = point.try_into().expect("length was checked");
        Ok(Self {
            lattice: lattice.try_into().expect("length was checked"),
            point: point.into(),
        })
    }
}

/// The KEM. Only HPKE's base mode is supported.
pub(super) struct XWing;

impl hpke::Kem for XWing {
    type PublicKey = Public;
    type PrivateKey = Secret;
    type EncappedKey = Encapped;
    type NSecret = U32;
    const KEM_ID: u16 = 0x647a;

    fn sk_to_pk(secret: &Secret) -> Public {
        secret.public().clone()
    }

    fn derive_keypair(ikm: &[u8]) -> (Secret, Public) {
        let mut seed = Zeroizing::new([0; SECRET_SIZE]);
        // SHAKE256's labeled derivation, with the label DeriveKeyPair and no context.
        Shake256::default()
            .chain(ikm)
            .chain(b"HPKE-v1KEM")
            .chain(Self::KEM_ID.to_be_bytes())
            .chain([0, 13])
            .chain(b"DeriveKeyPair")
            .chain([0, 32])
            .finalize_xof()
            .read(&mut *seed);
        let secret = Secret::new(seed);
        let public = secret.public().clone();
        (secret, public)
    }

    fn encap<R: CryptoRng + RngCore>(
        public: &Public,
        sender: Option<(&Secret, &Public)>,
        rng: &mut R,
    ) -> Result<(SharedSecret<Self>, Encapped), HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::EncapError);
        }
        let ephemeral = StaticSecret::random_from_rng(&mut *rng);
        let point_shared = ephemeral.diffie_hellman(&public.point);
        if !point_shared.was_contributory() {
            return Err(HpkeError::EncapError);
        }
        let (lattice, mut lattice_shared) = public
            .lattice
            .encapsulate(rng)
            .map_err(|()| HpkeError::EncapError)?;
        let encapped = Encapped {
            lattice,
            point: PointPublic::from(&ephemeral),
        };
        let secret = combine(
            lattice_shared.as_mut_slice(),
            point_shared.as_bytes(),
            &encapped.point,
            &public.point,
        );
        Ok((secret, encapped))
    }

    fn decap(
        secret: &Secret,
        sender: Option<&Public>,
        encapped: &Encapped,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        if sender.is_some() {
            return Err(HpkeError::DecapError);
        }
        let point_shared = secret.0.point.diffie_hellman(&encapped.point);
        if !point_shared.was_contributory() {
            return Err(HpkeError::DecapError);
        }
        let mut lattice_shared = secret
            .0
            .lattice
            .decapsulate(&encapped.lattice)
            .map_err(|()| HpkeError::DecapError)?;
        Ok(combine(
            lattice_shared.as_mut_slice(),
            point_shared.as_bytes(),
            &encapped.point,
            &secret.public().point,
        ))
    }
}

/// Derives the shared secret, and clears `lattice_shared`.
fn combine(
    lattice_shared: &mut [u8],
    point_shared: &[u8],
    ephemeral: &PointPublic,
    recipient: &PointPublic,
) -> SharedSecret<XWing> {
    let mut shared = SharedSecret::default();
    let mut hash = Sha3_256::new()
        .chain_update(&*lattice_shared)
        .chain_update(point_shared)
        .chain_update(ephemeral.as_bytes())
        .chain_update(recipient.as_bytes())
        .chain_update(LABEL)
        .finalize();
    shared.0.copy_from_slice(&hash);
    hash.as_mut_slice().zeroize();
    lattice_shared.zeroize();
    shared
}
