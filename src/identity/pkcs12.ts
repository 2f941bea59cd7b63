/**
 * PKCS#12 bundles (RFC 7292) of a key, its certificate and its authority, for devices that want one file.
 *
 * node-forge knows no elliptic curves, so that its own way to make a bundle fails on our keys and certificates. It needs not know
 * them: both go into the bundle as the bytes that they are. The key is encrypted by OpenSSL (PBES2: PBKDF2, AES-256-CBC); from
 * node-forge come DER and the key derivation of the MAC, which nothing in Node.js offers.
 */
import { createHash, createHmac, type KeyObject, randomBytes, X509Certificate } from "node:crypto";
import type Forge from "node-forge";

/** Rounds of the key derivation for the MAC: some tens of milliseconds on a small board. */
const MAC_ROUNDS = 10_000;
const SALT_BYTES = 16;

const OID = {
  data: "1.2.840.113549.1.7.1",
  certificateBag: "1.2.840.113549.1.12.10.1.3",
  shroudedKeyBag: "1.2.840.113549.1.12.10.1.2",
  x509Certificate: "1.2.840.113549.1.9.22.1",
  friendlyName: "1.2.840.113549.1.9.20",
  localKeyId: "1.2.840.113549.1.9.21",
  sha256: "2.16.840.1.101.3.4.2.1",
} as const;

export interface BundleContent {
  /** What the device's software shows to people. */
  readonly name: string;
  readonly key: KeyObject;
  /** PEM. */
  readonly certificate: string;
  /** PEM; goes along, so that the device can verify the server. */
  readonly authority: string;
}

/** A bundle under `password`, DER. Loads node-forge, which the daemon never needs. */
export async function makeBundle(content: BundleContent, password: string): Promise<Buffer> {
  const { default: forge } = await import("node-forge");
  const der = derOf(forge);
  const { name, key, certificate, authority } = content;
  const leaf = new X509Certificate(certificate).raw;
  const attributes = der.set([
    der.sequence([der.oid(OID.localKeyId), der.set([der.octets(createHash("sha1").update(leaf).digest())])]),
    der.sequence([der.oid(OID.friendlyName), der.set([der.bmpString(name)])]),
  ]);
  const certificateBag = (raw: Buffer, attached: Forge.asn1.Asn1[]): Forge.asn1.Asn1 =>
    der.sequence([
      der.oid(OID.certificateBag),
      der.tagged(der.sequence([der.oid(OID.x509Certificate), der.tagged(der.octets(raw))])),
      ...attached,
    ]);
  const shrouded = key.export({ type: "pkcs8", format: "der", cipher: "aes-256-cbc", passphrase: password });
  const keyBag = der.sequence([der.oid(OID.shroudedKeyBag), der.tagged(der.parsed(shrouded)), attributes]);
  const certificates = [certificateBag(leaf, [attributes]), certificateBag(new X509Certificate(authority).raw, [])];
  const data = (bytes: Buffer): Forge.asn1.Asn1 => der.sequence([der.oid(OID.data), der.tagged(der.octets(bytes))]);
  const safe = der.bytes(
    der.sequence([data(der.bytes(der.sequence(certificates))), data(der.bytes(der.sequence([keyBag])))]),
  );
  return der.bytes(der.sequence([der.integer(3), data(safe), macOf(forge, safe, password)]));
}

/** RFC 7292, section 4: the MAC over the whole, so that a changed bundle or a wrong password is noticed. */
function macOf(forge: typeof Forge, safe: Buffer, password: string): Forge.asn1.Asn1 {
  const der = derOf(forge);
  const salt = randomBytes(SALT_BYTES);
  const [FOR_MAC, KEY_BYTES] = [3, 32];
  const saltBuffer = forge.util.createBuffer(binary(salt));
  const key = forge.pkcs12.generateKey(password, saltBuffer, FOR_MAC, MAC_ROUNDS, KEY_BYTES, forge.md.sha256.create());
  const mac = createHmac("sha256", Buffer.from(key.getBytes(), "binary")).update(safe).digest();
  const algorithm = der.sequence([der.oid(OID.sha256), der.nothing()]);
  return der.sequence([der.sequence([algorithm, der.octets(mac)]), der.octets(salt), der.integer(MAC_ROUNDS)]);
}

/** DER in few words. */
function derOf({ asn1, util }: typeof Forge) {
  const { Class, Type } = asn1;
  const primitive = (type: Forge.asn1.Type, bytes: Uint8Array | string): Forge.asn1.Asn1 =>
    asn1.create(Class.UNIVERSAL, type, false, typeof bytes === "string" ? bytes : binary(bytes));
  const constructed = (type: Forge.asn1.Type, items: Forge.asn1.Asn1[]): Forge.asn1.Asn1 =>
    asn1.create(Class.UNIVERSAL, type, true, items);
  return {
    sequence: (items: Forge.asn1.Asn1[]) => constructed(Type.SEQUENCE, items),
    set: (items: Forge.asn1.Asn1[]) => constructed(Type.SET, items),
    /** `[0] EXPLICIT`. */
    tagged: (item: Forge.asn1.Asn1) => asn1.create(Class.CONTEXT_SPECIFIC, 0, true, [item]),
    oid: (oid: string) => primitive(Type.OID, asn1.oidToDer(oid).getBytes()),
    octets: (bytes: Uint8Array) => primitive(Type.OCTETSTRING, bytes),
    integer: (value: number) => primitive(Type.INTEGER, asn1.integerToDer(value).getBytes()),
    bmpString: (text: string) => primitive(Type.BMPSTRING, text),
    nothing: () => primitive(Type.NULL, ""),
    parsed: (bytes: Uint8Array) => asn1.fromDer(util.createBuffer(binary(bytes))),
    bytes: (item: Forge.asn1.Asn1) => Buffer.from(asn1.toDer(item).getBytes(), "binary"),
  };
}

const binary = (bytes: Uint8Array): string => Buffer.from(bytes).toString("binary");
