// What of ComfyUI's page the pack's modules use; the real ones come from its server.
declare module "*/scripts/app.js" {
  export const app: any;
}
declare module "*/scripts/api.js" {
  export const api: any;
}
